//! One index of the connection table: buckets of one cache line.
//!
//! A slot is 0 or a tag of the hash (22 bits), the entry's generation (12) and its number plus one (30), set and cleared by
//! compare and exchange: a slot names one connection, not whatever its entry holds. A connection stands in the first
//! bucket of its probe sequence that had room; each full bucket it passed counts it in `overflow`, so that a search
//! stops at the first bucket that nobody ever had to pass. A switcher killed in between leaves a count too high, which
//! costs a probe, never one too low.

use super::entry::EntryGeneration;
use super::table::{EntryId, Handle};
use crate::access::{Reader, Writer};
use crate::layout::described;
use crate::sync::Ordering;
use crate::word::Word;

/// Slots in a bucket; fewer for the model checker, which has to get through.
pub const SLOTS: usize = if cfg!(loom) { 3 } else { 7 };
/// Buckets in which a connection may stand.
pub const PROBES: usize = if cfg!(loom) { 2 } else { 8 };

/// Seven slots and the overflow count: one cache line.
#[repr(C, align(64))]
#[cfg_attr(not(loom), derive(zerocopy::FromBytes))]
pub struct Bucket<A = Reader> {
    slots: [Word<A>; SLOTS],
    overflow: Word<A>,
}

described!(Bucket<A> { slots, overflow });

/// A view of one index.
#[derive(Clone, Copy)]
pub(super) struct Index<'a, A = Reader>(pub &'a [Bucket<A>]);

/// No room within the probes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProbesFull;

/// Bits of a slot that hold the entry's number plus one.
const ENTRY_WIDTH: u32 = 30;
const ENTRY_BITS: u64 = (1 << ENTRY_WIDTH) - 1;
const TAG_SHIFT: u32 = ENTRY_WIDTH + EntryGeneration::WIDTH;
/// Entries that a slot can name.
pub const ENTRIES_MAX: usize = ENTRY_BITS as usize;

#[inline]
fn slot_word(hash: u64, handle: Handle) -> u64 {
    hash >> TAG_SHIFT << TAG_SHIFT | handle.generation.low_bits() << ENTRY_WIDTH | u64::from(handle.id.0 + 1)
}

/// The connection that a slot names, if its tag is this hash's.
#[inline]
fn named(word: u64, hash: u64) -> Option<Handle> {
    let entry = word & ENTRY_BITS;
    let is_candidate = (word ^ hash) >> TAG_SHIFT == 0 && entry != 0;
    is_candidate.then(|| Handle {
        id: EntryId(entry as u32 - 1),
        generation: EntryGeneration::from_low_bits(word >> ENTRY_WIDTH),
    })
}

impl<'a, A: Copy> Index<'a, A> {
    #[inline]
    fn bucket(&self, hash: u64, probe: usize) -> &'a Bucket<A> {
        let first = (u64::from(hash as u32) * self.0.len() as u64) >> 32;
        // A division would cost more than the rest; `first` is inside, and a table shorter than the probes is for tests.
        let at = first as usize + probe;
        let at = if at < self.0.len() { at } else { (at - self.0.len()) % self.0.len() };
        &self.0[at]
    }

    /// The first bucket of a search, to be prefetched.
    #[inline]
    pub fn first(&self, hash: u64) -> &'a Bucket<A> {
        self.bucket(hash, 0)
    }

    /// Connections whose tag matches, in the order of the search.
    #[inline]
    pub fn candidates(&self, hash: u64) -> impl Iterator<Item = Handle> + use<'a, A> {
        let index = *self;
        let mut passed = false;
        (0..PROBES)
            .map_while(move |probe| {
                let bucket = index.bucket(hash, probe);
                let enter = !passed;
                passed = bucket.overflow.load(Ordering::Acquire) == 0;
                enter.then_some(bucket)
            })
            .flat_map(move |bucket| {
                (0..SLOTS).filter_map(move |slot| named(bucket.slots[slot].load(Ordering::Acquire), hash)) // pairs with insert()
            })
    }
}

impl Index<'_, Writer> {
    /// Puts a connection into the first free slot.
    pub fn insert(&self, hash: u64, handle: Handle) -> Result<(), ProbesFull> {
        let word = slot_word(hash, handle);
        for probe in 0..PROBES {
            let bucket = self.bucket(hash, probe);
            for slot in &bucket.slots {
                let free = slot.load(Ordering::Relaxed) == 0;
                // AcqRel: the live entry is seen by whoever sees the slot; pairs with candidates().
                if free && slot.compare_exchange(0, word, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    return Ok(());
                }
            }
            bucket.overflow.fetch_add(1, Ordering::AcqRel); // before the slot further on: pairs with candidates()
        }
        self.forget_passing(hash, PROBES);
        Err(ProbesFull)
    }

    /// Takes a connection out, wherever in its probe sequence it stands; nothing if it isn't there.
    pub fn remove(&self, hash: u64, handle: Handle) {
        let word = slot_word(hash, handle);
        for probe in 0..PROBES {
            let bucket = self.bucket(hash, probe);
            for slot in &bucket.slots {
                let here = slot.load(Ordering::Relaxed) == word;
                if here && slot.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    self.forget_passing(hash, probe);
                    return;
                }
            }
        }
    }

    fn forget_passing(&self, hash: u64, probes: usize) {
        for probe in 0..probes {
            self.bucket(hash, probe).overflow.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(all(test, loom))]
impl<A> Bucket<A> {
    pub(super) fn for_loom() -> Self {
        Self { slots: core::array::from_fn(|_| Word::new(0)), overflow: Word::new(0) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use zerocopy::FromZeros;

    fn handle(entry: usize) -> Handle {
        Handle { id: EntryId(entry as u32), generation: EntryGeneration::from_low_bits(entry as u64) }
    }

    fn buckets(n: usize) -> Vec<Bucket<Writer>> {
        (0..n).map(|_| Bucket::new_zeroed()).collect()
    }

    #[test]
    fn row_93_colliding_entries_are_found_within_bounded_probes_and_leave_no_count() {
        let buckets = buckets(16);
        let index = Index(&buckets);
        let all: Vec<u64> = (0..(PROBES * SLOTS) as u64).map(|tag| tag << TAG_SHIFT).collect(); // all to one bucket
        for (entry, hash) in all.iter().enumerate() {
            index.insert(*hash, handle(entry)).unwrap();
        }
        assert_eq!(index.insert(99 << TAG_SHIFT, handle(99)), Err(ProbesFull));
        for (entry, hash) in all.iter().enumerate() {
            assert_eq!(index.candidates(*hash).collect::<Vec<_>>(), [handle(entry)]);
        }
        for (entry, hash) in all.iter().enumerate() {
            index.remove(*hash, handle(entry));
            assert_eq!(index.candidates(*hash).count(), 0);
        }
        assert!(buckets.iter().all(|b| b.overflow.load(Ordering::Relaxed) == 0));
    }

    #[derive(Clone, Copy, Debug)]
    enum Operation {
        Insert { name: usize },
        Remove { name: usize },
    }

    const NAMES: usize = 60;

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            (0..NAMES).prop_map(|name| Operation::Insert { name }),
            (0..NAMES).prop_map(|name| Operation::Remove { name }),
        ]
    }

    fn hash_of(name: usize) -> u64 {
        ((name as u64) << TAG_SHIFT) | (name as u64).wrapping_mul(0x9e37_79b9) & 0xffff_ffff
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(operations in proptest::collection::vec(operation(), 1..400)) {
            let buckets = buckets(5);
            let index = Index(&buckets);
            let mut model: HashMap<usize, Handle> = HashMap::new();
            for operation in operations {
                match operation {
                    Operation::Insert { name } => {
                        if !model.contains_key(&name) && index.insert(hash_of(name), handle(name)).is_ok() {
                            model.insert(name, handle(name));
                        }
                    }
                    Operation::Remove { name } => {
                        index.remove(hash_of(name), handle(name));
                        model.remove(&name);
                    }
                }
                for name in 0..NAMES {
                    let found = index.candidates(hash_of(name)).next();
                    prop_assert_eq!(found, model.get(&name).copied());
                }
            }
        }
    }
}
