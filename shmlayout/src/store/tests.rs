//! The store as a queue, the bounds of what it takes, and doorbell.

use super::*;
use crate::kill::killed_before;
use proptest::prelude::*;
use zerocopy::FromZeros;

struct Memory(StoreEnds<Writer, Writer>, Vec<PacketCell<Writer>>);

impl Memory {
    fn new(cells: usize) -> Self {
        Self::starting_at(0, cells)
    }

    /// An empty ring whose positions have counted up to `start`.
    fn starting_at(start: u64, cells: usize) -> Self {
        let memory = Self(StoreEnds::new_zeroed(), (0..cells).map(|_| PacketCell::new_zeroed()).collect());
        memory.0.head.store(start, Ordering::Relaxed);
        memory.0.tail.store(start, Ordering::Relaxed);
        memory
    }

    fn ring(&self) -> PacketRing<'_, Writer, Writer> {
        PacketRing::new(&self.0, &self.1).unwrap()
    }
}

fn take(consumer: &mut PacketConsumer<'_, Writer>) -> Option<Vec<u8>> {
    let mut packet = vec![0; PACKET_BYTES];
    consumer.pop(&mut packet).map(|length| packet[..length].to_vec())
}

#[test]
fn nothing_is_seen_before_it_is_published() {
    let memory = Memory::new(4);
    let (mut producer, mut consumer) = (memory.ring().producer(), memory.ring().consumer());
    assert!(!producer.publish());
    producer.push(b"one").unwrap();
    assert_eq!((consumer.has_packet(), memory.ring().depth()), (false, 0));
    assert!(producer.publish());
    assert_eq!(memory.ring().depth(), 1);
    assert_eq!(take(&mut consumer).as_deref(), Some(&b"one"[..]));
    assert_eq!(take(&mut consumer), None);
}

#[test]
fn a_full_ring_and_a_packet_larger_than_a_cell_are_refused() {
    let memory = Memory::new(2);
    let mut producer = memory.ring().producer();
    assert_eq!(producer.push(&[0; PACKET_BYTES + 1]), Err(PushError::Oversized));
    let placed: Vec<_> = (0..3).map(|_| producer.push(&[7; PACKET_BYTES])).collect();
    assert_eq!(placed, [Ok(()), Ok(()), Err(PushError::Full)]);
    producer.publish();
    assert_eq!(producer.room(), 0);
    assert!(take(&mut memory.ring().consumer()).is_some());
    assert_eq!(producer.room(), 1);
    assert_eq!(producer.push(&[8]), Ok(()));
}

#[test]
fn absurd_positions_and_lengths_are_survived() {
    let memory = Memory::new(4);
    memory.0.head.store(u64::MAX / 2, Ordering::Relaxed);
    assert_eq!(take(&mut memory.ring().consumer()), None);
    assert_eq!(memory.ring().producer().push(b"x"), Err(PushError::Full));
    memory.0.head.store(1, Ordering::Relaxed);
    memory.1[0].length.store(u64::MAX, Ordering::Relaxed);
    assert_eq!(take(&mut memory.ring().consumer()).map(|packet| packet.len()), Some(PACKET_BYTES));
    assert!(PacketRing::new(&memory.0, &memory.1[..3]).is_none());
}

#[test]
fn a_nap_is_woken_from_once() {
    let doorbell = Doorbell::<Writer>::new_zeroed();
    let mut ringer = Ringer::new(&doorbell);
    assert!(!ringer.must_ring());
    for times in 1..=2 {
        doorbell.arm();
        assert_eq!((ringer.must_ring(), ringer.must_ring(), doorbell.is_armed()), (true, false, true));
        doorbell.disarm();
        assert_eq!((ringer.must_ring(), doorbell.is_armed(), doorbell.count()), (false, false, times));
    }
    doorbell.arm();
    doorbell.arm(); // a successor of one that was killed asleep
    assert_eq!(doorbell.count(), 3);
}

#[derive(Debug, Clone)]
enum Operation {
    Push(Vec<u8>),
    Publish,
    Pop,
    /// The producer dies before this store of a push, and a successor goes on.
    KillPush {
        before: u64,
    },
    /// The producer dies before what it pushed is published.
    KillPublish,
    /// The consumer dies in a pop, before it says that it has the packet.
    KillPop,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Operation::Push),
        2 => Just(Operation::Publish),
        3 => Just(Operation::Pop),
        1 => (0..=5u64).prop_map(|before| Operation::KillPush { before }),
        1 => Just(Operation::KillPublish),
        1 => Just(Operation::KillPop),
    ]
}

proptest! {
    /// Against a queue: what was published comes out once, whole and in order, whoever of the two is killed in whatever it
    /// does, and wherever the positions are.
    #[test]
    fn a_store_is_a_queue_whoever_dies(
        start in prop_oneof![Just(0), u64::MAX - 20..=u64::MAX],
        operations in proptest::collection::vec(operation(), 0..200),
    ) {
        let memory = Memory::starting_at(start, 8);
        let (mut producer, mut consumer) = (memory.ring().producer(), memory.ring().consumer());
        let (mut published, mut pushed) = (std::collections::VecDeque::new(), Vec::new());
        for operation in operations {
            let has_room = published.len() + pushed.len() < 8;
            match operation {
                Operation::Push(packet) => {
                    prop_assert_eq!(producer.push(&packet).is_ok(), has_room);
                    pushed.extend(has_room.then_some(packet));
                }
                Operation::Publish => {
                    producer.publish();
                    published.extend(pushed.drain(..));
                }
                Operation::Pop => prop_assert_eq!(take(&mut consumer), published.pop_front()),
                Operation::KillPush { before } => {
                    // Five words and the length.
                    let is_killed = killed_before(before, || { let _ = producer.push(&[0xdd; 40]); });
                    prop_assert_eq!(is_killed, has_room);
                    producer = memory.ring().producer();
                    pushed.clear();
                }
                Operation::KillPublish => {
                    prop_assert_eq!(killed_before(0, || { producer.publish(); }), !pushed.is_empty());
                    producer = memory.ring().producer();
                    pushed.clear();
                }
                Operation::KillPop => {
                    prop_assert_eq!(killed_before(0, || { take(&mut consumer); }), !published.is_empty());
                    consumer = memory.ring().consumer();
                }
            }
            prop_assert_eq!(memory.ring().depth(), published.len() as u64);
        }
    }
}
