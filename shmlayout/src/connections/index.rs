//! One index of the connection table: buckets of one cache line.
//!
//! A slot is 0 or `tag << 32 | entry + 1`, set and cleared by compare and exchange. A connection stands in the first
//! bucket of its probe sequence that had room; each full bucket it passed counts it in `overflow`, so that a search
//! stops at the first bucket that nobody ever had to pass. A switcher killed in between leaves a count too high, which
//! costs a probe, never one too low.

use crate::sync::{AtomicU64, Ordering};
#[cfg(not(loom))]
use zerocopy::{FromBytes, IntoBytes, KnownLayout};

/// Slots in a bucket.
pub const SLOTS: usize = 7;
/// Buckets in which a connection may stand.
pub const PROBES: usize = 8;

/// Seven slots and the overflow count: one cache line.
#[repr(C, align(64))]
#[cfg_attr(not(loom), derive(FromBytes, IntoBytes, KnownLayout))]
pub struct Bucket {
    slots: [AtomicU64; SLOTS],
    overflow: AtomicU64,
}

/// A view of one index.
#[derive(Clone, Copy)]
pub(super) struct Index<'a>(pub &'a [Bucket]);

/// Where a slot is: probe number first, so that the order is that of the search.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Position {
    probe: usize,
    slot: usize,
}

/// No room within the probes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProbesFull;

#[inline]
fn word(hash: u64, entry: u32) -> u64 {
    hash & 0xffff_ffff_0000_0000 | u64::from(entry + 1)
}

impl<'a> Index<'a> {
    #[inline]
    fn bucket(&self, hash: u64, probe: usize) -> &'a Bucket {
        let first = (u64::from(hash as u32) * self.0.len() as u64) >> 32;
        // A division would cost more than the rest; `first` is inside, and a table shorter than the probes is for tests.
        let at = first as usize + probe;
        let at = if at < self.0.len() { at } else { (at - self.0.len()) % self.0.len() };
        &self.0[at]
    }

    /// The first bucket of a search, to be prefetched.
    #[inline]
    pub fn first(&self, hash: u64) -> &'a Bucket {
        self.bucket(hash, 0)
    }

    /// Entries whose tag matches, in the order of the search, with their positions.
    #[inline]
    pub fn candidates(&self, hash: u64) -> impl Iterator<Item = (Position, u32)> + use<'a> {
        let index = *self;
        let mut passed = false;
        (0..PROBES)
            .map_while(move |probe| {
                let bucket = index.bucket(hash, probe);
                let enter = !passed;
                passed = bucket.overflow.load(Ordering::Acquire) == 0;
                enter.then_some((probe, bucket))
            })
            .flat_map(move |(probe, bucket)| {
                (0..SLOTS).filter_map(move |slot| {
                    let word = bucket.slots[slot].load(Ordering::Acquire); // pairs with insert()
                    (word >> 32 == hash >> 32 && word as u32 != 0).then(|| (Position { probe, slot }, word as u32 - 1))
                })
            })
    }

    /// Puts an entry into the first free slot.
    pub fn insert(&self, hash: u64, entry: u32) -> Result<Position, ProbesFull> {
        let word = word(hash, entry);
        for probe in 0..PROBES {
            let bucket = self.bucket(hash, probe);
            for slot in 0..SLOTS {
                let free = bucket.slots[slot].load(Ordering::Relaxed) == 0;
                // AcqRel: the live entry is seen by whoever sees the slot; pairs with candidates().
                if free && bucket.slots[slot].compare_exchange(0, word, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    return Ok(Position { probe, slot });
                }
            }
            bucket.overflow.fetch_add(1, Ordering::AcqRel); // before the slot further on: pairs with candidates()
        }
        self.forget_passing(hash, PROBES);
        Err(ProbesFull)
    }

    /// Takes an entry out, wherever in its probe sequence it stands; nothing if it isn't there.
    pub fn remove(&self, hash: u64, entry: u32) {
        let word = word(hash, entry);
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
impl Bucket {
    pub(super) fn for_loom() -> Self {
        Self { slots: core::array::from_fn(|_| AtomicU64::new(0)), overflow: AtomicU64::new(0) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use zerocopy::FromZeros;

    fn buckets(n: usize) -> Vec<Bucket> {
        (0..n).map(|_| Bucket::new_zeroed()).collect()
    }

    #[test]
    fn overflowing_entries_are_found_and_leave_no_count() {
        let buckets = buckets(16);
        let index = Index(&buckets);
        let all: Vec<u64> = (0..(PROBES * SLOTS) as u64).map(|tag| tag << 32).collect(); // all to one bucket
        for (entry, hash) in all.iter().enumerate() {
            index.insert(*hash, entry as u32).unwrap();
        }
        assert_eq!(index.insert(99 << 32, 99), Err(ProbesFull));
        for (entry, hash) in all.iter().enumerate() {
            assert_eq!(index.candidates(*hash).map(|c| c.1).collect::<Vec<_>>(), [entry as u32]);
        }
        for (entry, hash) in all.iter().enumerate() {
            index.remove(*hash, entry as u32);
            assert_eq!(index.candidates(*hash).count(), 0);
        }
        assert!(buckets.iter().all(|b| b.overflow.load(Ordering::Relaxed) == 0));
    }

    proptest::proptest! {
        #[test]
        fn behaves_like_a_map(steps in proptest::collection::vec((0u64..60, proptest::bool::ANY), 1..400)) {
            let buckets = buckets(5);
            let index = Index(&buckets);
            let mut model: HashMap<u64, u32> = HashMap::new();
            for (name, add) in steps {
                let hash = (name << 32) | name.wrapping_mul(0x9e37_79b9) & 0xffff_ffff;
                if add && !model.contains_key(&name) {
                    if index.insert(hash, name as u32).is_ok() {
                        model.insert(name, name as u32);
                    }
                } else if !add {
                    index.remove(hash, name as u32);
                    model.remove(&name);
                }
                for name in 0..60u64 {
                    let hash = (name << 32) | name.wrapping_mul(0x9e37_79b9) & 0xffff_ffff;
                    let found = index.candidates(hash).map(|c| c.1).next();
                    proptest::prop_assert_eq!(found, model.get(&name).copied());
                }
            }
        }
    }
}
