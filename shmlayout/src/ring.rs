//! Single-producer single-consumer ring between two processes.
//!
//! The producer writes `head` and the cells, the consumer writes `tail`; both count up without end and are masked on
//! use, so that full (`head - tail == capacity`) differs from empty. Neither trusts the other: a difference larger than
//! the capacity is taken for "full" by the producer and "empty" by the consumer.

use crate::kill::before_store;
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
///
/// It gives out the two ends, which are neither `Clone` nor `Copy` and move only by `&mut`: whoever owns one has it alone.
/// That a ring has one process at each end the types can't say; the keeper sees to it.
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

    /// The writing end; it goes on where a predecessor stopped.
    pub fn producer(self) -> Producer<'a, WORDS> {
        Producer(self)
    }

    /// The reading end; it goes on where a predecessor stopped.
    pub fn consumer(self) -> Consumer<'a, WORDS> {
        Consumer(self)
    }

    /// How many records the producer could not place.
    pub fn dropped(&self) -> u64 {
        self.ends.dropped.load(Ordering::Relaxed)
    }

    fn cell(&self, position: u64) -> &'a Record<WORDS> {
        &self.cells[position as usize & (self.cells.len() - 1)]
    }
}

/// The writing end.
pub struct Producer<'a, const WORDS: usize>(Ring<'a, WORDS>);

impl<const WORDS: usize> Producer<'_, WORDS> {
    /// Adds a record, or counts it as dropped and returns false when the ring is full.
    pub fn push<T: IntoBytes + Immutable>(&mut self, value: &T) -> bool {
        let Ring { ends, cells } = self.0;
        let head = ends.head.load(Ordering::Relaxed);
        let tail = ends.tail.load(Ordering::Acquire); // the cell was read before: pairs with pop()
        if head.wrapping_sub(tail) >= cells.len() as u64 {
            before_store();
            ends.dropped.store(ends.dropped.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            return false;
        }
        self.0.cell(head).store(value);
        before_store();
        ends.head.store(head.wrapping_add(1), Ordering::Release); // the cell is whole: pairs with pop()
        true
    }
}

/// The reading end.
pub struct Consumer<'a, const WORDS: usize>(Ring<'a, WORDS>);

impl<const WORDS: usize> Consumer<'_, WORDS> {
    /// Takes the oldest record.
    pub fn pop<T: FromBytes>(&mut self) -> Option<T> {
        let Ring { ends, cells } = self.0;
        let tail = ends.tail.load(Ordering::Relaxed);
        let head = ends.head.load(Ordering::Acquire); // pairs with push()
        let waiting = head.wrapping_sub(tail);
        if waiting == 0 || waiting > cells.len() as u64 {
            return None;
        }
        let value = self.0.cell(tail).load();
        before_store();
        ends.tail.store(tail.wrapping_add(1), Ordering::Release); // the cell may be written again: pairs with push()
        Some(value)
    }
}

#[cfg(all(test, not(loom)))]
#[path = "ring_tests.rs"]
mod tests;

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
            let (mut producer, mut consumer) = (ring.producer(), ring.consumer());
            // The producer is the thread that runs first: loom looks for a race only with the last access to an atomic, and
            // push() loads its own position, which would hide the consumer's look at it.
            let taken = loom::thread::spawn(move || {
                let (mut last, mut taken) = (0, 0);
                for _ in 0..3 {
                    if let Some([a, b]) = consumer.pop::<[u64; 2]>() {
                        assert_eq!(a, b);
                        assert!(a > last);
                        (last, taken) = (a, taken + 1);
                    }
                }
                taken
            });
            let placed = (1..=3u64).filter(|n| producer.push(&[*n, *n])).count();
            assert!(placed >= taken.join().unwrap());
        });
    }
}
