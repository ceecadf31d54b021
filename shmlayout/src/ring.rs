//! Single-producer single-consumer ring between two processes.
//!
//! The producer writes `head` and the cells, the consumer writes `tail`; both count up without end and are masked on
//! use, so that full (`head - tail == capacity`) differs from empty. Neither trusts the other: a difference larger than
//! the capacity is taken for "full" by the producer and "empty" by the consumer.

use crate::record::Record;
use crate::sync::{AtomicU64, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Where the two sides are; each on its own cache line.
#[repr(C, align(64))]
#[cfg_attr(not(loom), derive(FromBytes, IntoBytes, zerocopy::KnownLayout))]
pub struct RingHead {
    head: AtomicU64,
    _apart: [AtomicU64; 7],
    tail: AtomicU64,
    dropped: AtomicU64,
    _end: [AtomicU64; 6],
}

/// A view of a ring whose cells hold records of `8 * WORDS` bytes. The number of cells is a power of two.
#[derive(Clone, Copy)]
pub struct Ring<'a, const WORDS: usize> {
    ends: &'a RingHead,
    cells: &'a [Record<WORDS>],
}

impl<'a, const WORDS: usize> Ring<'a, WORDS> {
    /// Joins the two parts; `None` if the number of cells isn't a power of two.
    pub fn new(ends: &'a RingHead, cells: &'a [Record<WORDS>]) -> Option<Self> {
        cells.len().is_power_of_two().then_some(Self { ends, cells })
    }

    fn cell(&self, position: u64) -> &'a Record<WORDS> {
        &self.cells[position as usize & (self.cells.len() - 1)]
    }

    /// The producer's: adds a record, or counts it as dropped and returns false when the ring is full.
    pub fn push<T: IntoBytes + Immutable>(&self, value: &T) -> bool {
        let head = self.ends.head.load(Ordering::Relaxed);
        let tail = self.ends.tail.load(Ordering::Acquire); // the cell was read before: pairs with pop()
        if head.wrapping_sub(tail) >= self.cells.len() as u64 {
            self.ends.dropped.store(self.ends.dropped.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            return false;
        }
        self.cell(head).store(value);
        self.ends.head.store(head.wrapping_add(1), Ordering::Release); // the cell is whole: pairs with pop()
        true
    }

    /// The consumer's: takes the oldest record.
    pub fn pop<T: FromBytes>(&self) -> Option<T> {
        let tail = self.ends.tail.load(Ordering::Relaxed);
        let head = self.ends.head.load(Ordering::Acquire); // pairs with push()
        let waiting = head.wrapping_sub(tail);
        if waiting == 0 || waiting > self.cells.len() as u64 {
            return None;
        }
        let value = self.cell(tail).load();
        self.ends.tail.store(tail.wrapping_add(1), Ordering::Release); // the cell may be written again: pairs with push()
        Some(value)
    }

    /// How many records the producer could not place.
    pub fn dropped(&self) -> u64 {
        self.ends.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn parts<const CELLS: usize>() -> (RingHead, [Record<1>; CELLS]) {
        (RingHead::new_zeroed(), core::array::from_fn(|_| Record::new_zeroed()))
    }

    #[test]
    fn full_drops_and_counts_then_order_is_kept() {
        let (ends, cells) = parts::<4>();
        let ring = Ring::new(&ends, &cells).unwrap();
        let placed = (0..6u64).filter(|n| ring.push(n)).count();
        assert_eq!((placed, ring.dropped()), (4, 2));
        assert_eq!((0..5).map(|_| ring.pop::<u64>()).collect::<Vec<_>>(), [Some(0), Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn an_absurd_head_reads_as_empty() {
        let (ends, cells) = parts::<4>();
        ends.head.store(u64::MAX / 2, Ordering::Relaxed);
        let ring = Ring::new(&ends, &cells).unwrap();
        assert_eq!(ring.pop::<u64>(), None);
        assert!(!ring.push(&1u64));
    }

    #[test]
    fn cells_must_be_a_power_of_two() {
        let (ends, cells) = parts::<3>();
        assert!(Ring::new(&ends, &cells).is_none());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;

    #[test]
    fn loom_ring_keeps_order_and_wholeness() {
        loom::model(|| {
            let make = || AtomicU64::new(0);
            let ends: &'static RingHead = Box::leak(Box::new(RingHead {
                head: make(),
                _apart: core::array::from_fn(|_| make()),
                tail: make(),
                dropped: make(),
                _end: core::array::from_fn(|_| make()),
            }));
            let cells: &'static [Record<2>] = Box::leak((0..2).map(|_| Record::for_loom()).collect());
            let ring = Ring::new(ends, cells).unwrap();
            // The producer is the thread that runs first: loom looks for a race only with the last access to an atomic, and
            // push() loads its own position, which would hide the consumer's look at it.
            let consumer = loom::thread::spawn(move || {
                let (mut last, mut taken) = (0, 0);
                for _ in 0..3 {
                    if let Some([a, b]) = ring.pop::<[u64; 2]>() {
                        assert_eq!(a, b);
                        assert!(a > last);
                        (last, taken) = (a, taken + 1);
                    }
                }
                taken
            });
            let placed = (1..=3u64).filter(|n| ring.push(&[*n, *n])).count();
            assert!(placed >= consumer.join().unwrap());
        });
    }
}
