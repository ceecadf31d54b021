//! The ring as a queue, near the wrap of its positions, and killed before each of its stores.

use std::collections::VecDeque;

use super::*;
use crate::kill::killed_before;
use proptest::prelude::*;
use zerocopy::FromZeros;

const CELLS: usize = 4;
/// Words of a record: a record half written is one whose words differ.
const WORDS: usize = 3;

struct Memory<const CELLS: usize>(RingHead<Writer, Writer>, [Record<[u64; WORDS], WORDS, Writer>; CELLS]);

type TestProducer<'a> = Producer<'a, [u64; WORDS], WORDS, Writer>;
type TestConsumer<'a> = Consumer<'a, [u64; WORDS], WORDS, Writer>;

impl<const CELLS: usize> Memory<CELLS> {
    /// An empty ring whose positions have counted up to `start`.
    fn starting_at(start: u64) -> Self {
        let memory = Self(RingHead::new_zeroed(), core::array::from_fn(|_| Record::new_zeroed()));
        memory.0.head.store(start, Ordering::Relaxed);
        memory.0.tail.store(start, Ordering::Relaxed);
        memory
    }

    fn ring(&self) -> Ring<'_, [u64; WORDS], WORDS, Writer, Writer> {
        Ring::new(&self.0, &self.1).unwrap()
    }

    fn ends(&self) -> (TestProducer<'_>, TestConsumer<'_>) {
        (self.ring().producer(), self.ring().consumer())
    }
}

fn record(value: u64) -> [u64; WORDS] {
    [value; WORDS]
}

fn pop(consumer: &mut TestConsumer<'_>) -> Option<u64> {
    consumer.pop().map(|words| {
        assert_eq!(words, record(words[0]), "half a record");
        words[0]
    })
}

#[test]
fn full_drops_and_counts_then_order_is_kept() {
    for start in [0, u64::MAX - 2, u64::MAX] {
        let memory = Memory::<CELLS>::starting_at(start);
        let (mut producer, mut consumer) = memory.ends();
        let placed = (0..6).filter(|n| producer.push(&record(*n))).count();
        assert_eq!((placed, memory.ring().dropped()), (4, 2));
        let taken: Vec<_> = (0..5).map(|_| pop(&mut consumer)).collect();
        assert_eq!(taken, [Some(0), Some(1), Some(2), Some(3), None]);
    }
}

#[test]
fn an_absurd_head_reads_as_empty() {
    for start in [0, u64::MAX] {
        let memory = Memory::<CELLS>::starting_at(start);
        memory.0.head.store(start.wrapping_add(u64::MAX / 2), Ordering::Relaxed);
        let (mut producer, mut consumer) = memory.ends();
        assert_eq!(pop(&mut consumer), None);
        assert!(!producer.push(&record(1)));
    }
}

#[test]
fn cells_must_be_a_power_of_two() {
    let memory = Memory::<3>::starting_at(0);
    assert!(Ring::new(&memory.0, &memory.1).is_none());
}

#[derive(Debug, Clone)]
enum Operation {
    Push,
    Pop,
    /// The producer dies before the store of this number in its push; a successor goes on.
    KillProducer {
        before: u64,
    },
    /// The same of the consumer in its pop.
    KillConsumer {
        before: u64,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => Just(Operation::Push),
        4 => Just(Operation::Pop),
        1 => (0..=WORDS as u64).prop_map(|before| Operation::KillProducer { before }),
        1 => Just(Operation::KillConsumer { before: 0 }),
    ]
}

proptest! {
    /// What was pushed comes out once, whole and in order; a push or pop that was killed has not happened.
    #[test]
    fn a_ring_is_a_queue_whoever_is_killed(
        start in prop_oneof![Just(0), u64::MAX - 20..=u64::MAX],
        operations in prop::collection::vec(operation(), 0..100),
    ) {
        let memory = Memory::<CELLS>::starting_at(start);
        let (mut producer, mut consumer) = memory.ends();
        let (mut queue, mut dropped) = (VecDeque::new(), 0);
        for (value, operation) in (1..).zip(operations) {
            let has_room = queue.len() < CELLS;
            match operation {
                Operation::Push => {
                    prop_assert_eq!(producer.push(&record(value)), has_room);
                    if has_room { queue.push_back(value) } else { dropped += 1 }
                }
                Operation::Pop => prop_assert_eq!(pop(&mut consumer), queue.pop_front()),
                Operation::KillProducer { before } => {
                    let is_killed = killed_before(before, || { producer.push(&record(value)); });
                    // A push into a full ring has one store.
                    prop_assert_eq!(is_killed, has_room || before == 0);
                    dropped += u64::from(!is_killed);
                    producer = memory.ring().producer();
                }
                Operation::KillConsumer { before } => {
                    let is_killed = killed_before(before, || { pop(&mut consumer); });
                    prop_assert_eq!(is_killed, !queue.is_empty());
                    consumer = memory.ring().consumer();
                }
            }
            prop_assert_eq!(memory.ring().dropped(), dropped);
        }
        let left: Vec<u64> = std::iter::from_fn(|| pop(&mut consumer)).collect();
        prop_assert_eq!(left, Vec::from(queue));
    }
}
