//! One index of the connection table: buckets of one cache line.
//!
//! A slot is 0, or a tag of the hash (22 bits), the entry's generation (12) and its number plus one (30). It is set and cleared
//! by compare and exchange and names one connection, not the entry's current content. A connection is in the first bucket of
//! its probe sequence that had room. Each full bucket before it counts it in `overflow`, so a search stops at the first bucket
//! with a count of 0. A switcher killed in between leaves a count too high, which costs a probe; a count is never too low.

use super::entry::EntryGeneration;
use super::table::{EntryId, Handle};
use crate::access::{Reader, Writer};
use crate::layout::described;
use crate::sync::Ordering;
use crate::word::Word;

/// Slots in a bucket; fewer under loom, to bound the state space.
pub const SLOTS: usize = if cfg!(loom) { 3 } else { 7 };
/// Limit of the buckets in a probe sequence.
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

/// All buckets of the probe sequence are full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProbesFull;

/// Bits of a slot that hold the entry's number plus one.
const ENTRY_WIDTH: u32 = 30;
const ENTRY_BITS: u64 = (1 << ENTRY_WIDTH) - 1;
const TAG_SHIFT: u32 = ENTRY_WIDTH + EntryGeneration::WIDTH;
/// Number of entries that a slot can name.
pub const ENTRIES_MAX: usize = ENTRY_BITS as usize;

#[inline]
fn slot_word(hash: u64, handle: Handle) -> u64 {
    hash >> TAG_SHIFT << TAG_SHIFT | handle.generation.low_bits() << ENTRY_WIDTH | u64::from(handle.id.0 + 1)
}

/// The connection that a slot names, if its tag matches the hash.
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
        // Avoids a division in the common case: `first` is in range, and only tests have a table shorter than the probes.
        let at = first as usize + probe;
        let at = if at < self.0.len() { at } else { (at - self.0.len()) % self.0.len() };
        &self.0[at]
    }

    /// The first bucket of a search, for prefetching.
    #[inline]
    pub fn first(&self, hash: u64) -> &'a Bucket<A> {
        self.bucket(hash, 0)
    }

    /// Connections whose tag matches, in probe order.
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
                // AcqRel: a reader that sees the slot also sees the live entry; pairs with candidates().
                if free && slot.compare_exchange(0, word, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    return Ok(());
                }
            }
            bucket.overflow.fetch_add(1, Ordering::AcqRel); // before the slot in a later bucket: pairs with candidates()
        }
        self.undo_overflow(hash, PROBES);
        Err(ProbesFull)
    }

    /// Removes a connection from its probe sequence, if present.
    pub fn remove(&self, hash: u64, handle: Handle) {
        let word = slot_word(hash, handle);
        for probe in 0..PROBES {
            let bucket = self.bucket(hash, probe);
            for slot in &bucket.slots {
                let here = slot.load(Ordering::Relaxed) == word;
                if here && slot.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    self.undo_overflow(hash, probe);
                    return;
                }
            }
        }
    }

    /// Decrements the overflow counts of the first `probes` buckets.
    fn undo_overflow(&self, hash: u64, probes: usize) {
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
