//! The store as a queue, the bounds of what it takes, and naps.

use super::*;
use proptest::prelude::*;
use zerocopy::FromZeros;

struct Memory(StoreEnds<Writer, Writer>, Vec<PacketCell<Writer>>);

impl Memory {
    fn new(cells: usize) -> Self {
        Self(StoreEnds::new_zeroed(), (0..cells).map(|_| PacketCell::new_zeroed()).collect())
    }

    fn ring(&self) -> PacketRing<'_, Writer, Writer> {
        PacketRing::new(&self.0, &self.1).unwrap()
    }
}

fn take(consumer: &mut Consumer<'_, Writer>) -> Option<Vec<u8>> {
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
    assert_eq!(producer.push(&[0; PACKET_BYTES + 1]), Err(Refusal::Oversized));
    let placed: Vec<_> = (0..3).map(|_| producer.push(&[7; PACKET_BYTES])).collect();
    assert_eq!(placed, [Ok(()), Ok(()), Err(Refusal::Full)]);
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
    assert_eq!(memory.ring().producer().push(b"x"), Err(Refusal::Full));
    memory.0.head.store(1, Ordering::Relaxed);
    memory.1[0].length.store(u64::MAX, Ordering::Relaxed);
    assert_eq!(take(&mut memory.ring().consumer()).map(|packet| packet.len()), Some(PACKET_BYTES));
    assert!(PacketRing::new(&memory.0, &memory.1[..3]).is_none());
}

#[test]
fn a_nap_is_woken_from_once() {
    let naps = Naps::<Writer>::new_zeroed();
    let mut waker = Waker::new(&naps);
    assert!(!waker.must_wake());
    for nap in 1..=2 {
        naps.fall_asleep();
        assert_eq!((waker.must_wake(), waker.must_wake(), naps.is_asleep()), (true, false, true));
        naps.wake_up();
        assert_eq!((waker.must_wake(), naps.is_asleep(), naps.count()), (false, false, nap));
    }
    naps.fall_asleep();
    naps.fall_asleep(); // a successor of one that was killed asleep
    assert_eq!(naps.count(), 3);
}

#[derive(Debug, Clone)]
enum Step {
    Push(Vec<u8>),
    Publish,
    Pop,
    ProducerDies,
    ConsumerDies,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Step::Push),
        2 => Just(Step::Publish),
        3 => Just(Step::Pop),
        1 => Just(Step::ProducerDies),
        1 => Just(Step::ConsumerDies),
    ]
}

proptest! {
    /// Against a queue: what was published comes out once, whole and in order, whoever of the two is killed between.
    #[test]
    fn a_store_is_a_queue_whoever_dies(steps in proptest::collection::vec(step(), 0..200)) {
        let memory = Memory::new(8);
        let (mut producer, mut consumer) = (memory.ring().producer(), memory.ring().consumer());
        let (mut published, mut pushed) = (std::collections::VecDeque::new(), Vec::new());
        for step in steps {
            match step {
                Step::Push(packet) => {
                    let has_room = published.len() + pushed.len() < 8;
                    prop_assert_eq!(producer.push(&packet).is_ok(), has_room);
                    pushed.extend(has_room.then_some(packet));
                }
                Step::Publish => {
                    producer.publish();
                    published.extend(pushed.drain(..));
                }
                Step::Pop => prop_assert_eq!(take(&mut consumer), published.pop_front()),
                Step::ProducerDies => {
                    producer = memory.ring().producer();
                    pushed.clear();
                }
                Step::ConsumerDies => consumer = memory.ring().consumer(),
            }
            prop_assert_eq!(memory.ring().depth(), published.len() as u64);
        }
    }
}
