//! Single-producer single-consumer ring between two processes.
//!
//! The producer writes `head` and the cells, the consumer writes `tail`. Both positions increase without bound and are masked
//! on use, so full (`head - tail == capacity`) differs from empty. Neither trusts the other: if the difference exceeds the
//! capacity, the producer treats the ring as full and the consumer as empty.

#[cfg(not(loom))]
use crate::access::{Access, Lends};
use crate::access::{Reader, Writer};
#[cfg(not(loom))]
use crate::layout::Described;
use crate::layout::described;
#[cfg(not(loom))]
use crate::map::{lend, lend_one};
use crate::record::Record;
use crate::sync::Ordering;
use crate::word::Word;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The positions of producer and consumer, each on its own cache line.
#[repr(C, align(64))]
#[cfg_attr(not(loom), derive(FromBytes))]
pub struct RingHead<P = Reader, C = Reader> {
    head: Word<P>,
    dropped: Word<P>,
    _apart: [Word<P>; 6],
    tail: Word<C>,
    _end: [Word<C>; 7],
}

described!(RingHead<P, C> { head, dropped, _apart, tail, _end });

/// A view of a ring of records of `8 * WORDS` bytes, with the accesses of its producer and its consumer. The number of cells
/// is a power of two.
///
/// It creates the two ends, each only where its access is [`Writer`]. An end is neither `Clone` nor `Copy` and needs `&mut` to
/// advance, so its owner has exclusive use. The types cannot ensure one process per end; the keeper does.
#[derive(Clone, Copy)]
pub struct Ring<'a, T, const WORDS: usize, P = Reader, C = Reader> {
    ends: &'a RingHead<P, C>,
    cells: &'a [Record<T, WORDS, P>],
}

impl<'a, T, const WORDS: usize, P, C> Ring<'a, T, WORDS, P, C> {
    /// Combines the two parts; `None` if the number of cells is not a power of two.
    pub fn new(ends: &'a RingHead<P, C>, cells: &'a [Record<T, WORDS, P>]) -> Option<Self> {
        cells.len().is_power_of_two().then_some(Self { ends, cells })
    }

    /// Number of records that the producer dropped because the ring was full.
    pub fn dropped(&self) -> u64 {
        self.ends.dropped.load(Ordering::Relaxed)
    }

    fn cell(&self, position: u64) -> &'a Record<T, WORDS, P> {
        &self.cells[position as usize & (self.cells.len() - 1)]
    }
}

impl<'a, T, const WORDS: usize, C> Ring<'a, T, WORDS, Writer, C> {
    /// The writing end; it continues where a predecessor stopped.
    pub fn producer(self) -> Producer<'a, T, WORDS, C> {
        Producer(self)
    }
}

impl<'a, T, const WORDS: usize, P> Ring<'a, T, WORDS, P, Writer> {
    /// The reading end; it continues where a predecessor stopped.
    pub fn consumer(self) -> Consumer<'a, T, WORDS, P> {
        Consumer(self)
    }
}

#[cfg(not(loom))]
impl<'a, T: FromBytes + Described, const WORDS: usize, P: Access, C: Access> Ring<'a, T, WORDS, P, C> {
    /// The same ring with equal or fewer rights.
    pub fn lend<Q: Access, D: Access>(&self) -> Ring<'a, T, WORDS, Q, D>
    where
        P: Lends<Q>,
        C: Lends<D>,
    {
        Ring { ends: lend_one(self.ends), cells: lend(self.cells) }
    }
}

/// The writing end.
pub struct Producer<'a, T, const WORDS: usize, C = Reader>(Ring<'a, T, WORDS, Writer, C>);

impl<T: IntoBytes + Immutable, const WORDS: usize, C> Producer<'_, T, WORDS, C> {
    /// Adds a record. If the ring is full, counts it as dropped and returns false.
    pub fn push(&mut self, value: &T) -> bool {
        let Ring { ends, cells } = &self.0;
        let head = ends.head.load(Ordering::Relaxed);
        let tail = ends.tail.load(Ordering::Acquire); // the consumer has read the cell: pairs with pop()
        if head.wrapping_sub(tail) >= cells.len() as u64 {
            ends.dropped.store(ends.dropped.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            return false;
        }
        self.0.cell(head).store(value);
        ends.head.store(head.wrapping_add(1), Ordering::Release); // after the cell: pairs with pop()
        true
    }
}

/// The reading end.
pub struct Consumer<'a, T, const WORDS: usize, P = Reader>(Ring<'a, T, WORDS, P, Writer>);

impl<T: FromBytes, const WORDS: usize, P> Consumer<'_, T, WORDS, P> {
    /// Removes the oldest record.
    pub fn pop(&mut self) -> Option<T> {
        let Ring { ends, cells } = &self.0;
        let tail = ends.tail.load(Ordering::Relaxed);
        let head = ends.head.load(Ordering::Acquire); // pairs with push()
        let waiting = head.wrapping_sub(tail);
        if waiting == 0 || waiting > cells.len() as u64 {
            return None;
        }
        let value = self.0.cell(tail).load();
        ends.tail.store(tail.wrapping_add(1), Ordering::Release); // the cell may be reused: pairs with push()
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
            let ends: &'static RingHead<Writer, Writer> = Box::leak(Box::new(RingHead {
                head: Word::new(0),
                dropped: Word::new(0),
                _apart: core::array::from_fn(|_| Word::new(0)),
                tail: Word::new(0),
                _end: core::array::from_fn(|_| Word::new(0)),
            }));
            let cells: &'static [Record<[u64; 2], 2, Writer>] = Box::leak((0..2).map(|_| Record::for_loom()).collect());
            let ring = Ring::new(ends, cells).unwrap();
            let (mut producer, mut consumer) = (ring.producer(), ring.consumer());
            // The producer is the thread that runs first: loom looks for a race only with the last access to an atomic, and
            // push() loads its own position, which would hide the consumer's load of it.
            let taken = loom::thread::spawn(move || {
                let (mut last, mut taken) = (0, 0);
                for _ in 0..3 {
                    if let Some([a, b]) = consumer.pop() {
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
