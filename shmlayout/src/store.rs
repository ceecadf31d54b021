//! The packet store (patent Fig. 8, data packet storage area 68): rings whose cells each hold one whole packet in place.
//!
//! ```text
//!  switcher N                                              ifdaemon
//!    Producer::push, push, ... publish                        Consumer::pop  -> device        ring "inward"
//!    Consumer::pop -> route, send                             Producer::push, ... publish     ring "outward"
//! ```
//!
//! One producer and one consumer a ring. `head` counts the packets published, `tail` those taken; both count up without
//! end and are masked on use. Each side keeps its own position, and a copy of the other's that it refreshes only when
//! the copy says "full" or "empty", so that a busy ring moves few cache lines between the two processors.
//!
//! Either side may be killed at any instruction, and its successor goes on from the positions in the memory: a packet
//! that was half written was never published, and its cell is written again; a packet that was being copied out is still
//! before `tail` and is read again. What a dead consumer had popped and not yet passed on (its batch in hand) is lost.
//!
//! Neither side trusts the other: a distance larger than the ring is "full" to the producer and "empty" to the consumer,
//! and a length larger than a cell is cut.

use crate::sync::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use zerocopy::{FromBytes, KnownLayout};

/// Words of a cell's packet: 2048 bytes, as much as a frame. Fewer for the model checker, which counts every store.
#[cfg(not(loom))]
pub const PACKET_WORDS: usize = 256;
/// See above.
#[cfg(loom)]
pub const PACKET_WORDS: usize = 1;
/// Largest packet, in bytes.
pub const PACKET_BYTES: usize = 8 * PACKET_WORDS;

/// Where the two sides are; each on its own cache line.
#[repr(C, align(64))]
#[cfg_attr(not(loom), derive(FromBytes, KnownLayout))]
pub struct StoreEnds {
    head: AtomicU64,
    _apart: [AtomicU64; 7],
    tail: AtomicU64,
    _end: [AtomicU64; 7],
}

/// Room for one packet. An odd number of cache lines, so that the beginnings of cells don't fall on few cache sets.
#[repr(C, align(64))]
#[cfg_attr(not(loom), derive(FromBytes, KnownLayout))]
pub struct PacketCell {
    length: AtomicU64,
    words: [AtomicU64; PACKET_WORDS],
    #[cfg(not(loom))]
    _end: [AtomicU64; 7],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<PacketCell>() == 33 * 64);

impl PacketCell {
    fn write(&self, packet: &[u8]) {
        let (eights, rest) = packet.as_chunks::<8>();
        for (word, bytes) in self.words.iter().zip(eights) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        if let (Some(word), false) = (self.words.get(eights.len()), rest.is_empty()) {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            word.store(u64::from_ne_bytes(last), Ordering::Relaxed);
        }
        self.length.store(packet.len() as u64, Ordering::Relaxed);
    }

    /// Copies the packet out as far as there is room; its length.
    fn read(&self, to: &mut [u8]) -> usize {
        let length = (self.length.load(Ordering::Relaxed) as usize).min(PACKET_BYTES).min(to.len());
        let (eights, rest) = to[..length].as_chunks_mut::<8>();
        for (bytes, word) in eights.iter_mut().zip(&self.words) {
            *bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        if let (Some(word), false) = (self.words.get(eights.len()), rest.is_empty()) {
            let last = word.load(Ordering::Relaxed).to_ne_bytes();
            rest.copy_from_slice(&last[..rest.len()]);
        }
        length
    }
}

/// A view of one ring. The number of cells is a power of two.
#[derive(Clone, Copy)]
pub struct PacketRing<'a> {
    ends: &'a StoreEnds,
    cells: &'a [PacketCell],
}

impl<'a> PacketRing<'a> {
    /// Joins the two parts; `None` if the number of cells isn't a power of two.
    pub fn new(ends: &'a StoreEnds, cells: &'a [PacketCell]) -> Option<Self> {
        cells.len().is_power_of_two().then_some(Self { ends, cells })
    }

    /// Packets published and not yet taken, for whoever watches.
    pub fn depth(&self) -> u64 {
        let tail = self.ends.tail.load(Ordering::Relaxed);
        self.ends.head.load(Ordering::Relaxed).saturating_sub(tail).min(self.capacity())
    }

    /// Packets that fit.
    pub fn capacity(&self) -> u64 {
        self.cells.len() as u64
    }

    /// The writing end. Only one process may have it, which the keeper sees to.
    pub fn producer(self) -> Producer<'a> {
        let head = self.ends.head.load(Ordering::Relaxed);
        Producer { ring: self, head, published: head, tail: self.ends.tail.load(Ordering::Acquire) }
    }

    /// The reading end. Only one process may have it, which the keeper sees to.
    pub fn consumer(self) -> Consumer<'a> {
        let tail = self.ends.tail.load(Ordering::Relaxed);
        Consumer { ring: self, tail, head: tail }
    }

    fn cell(&self, position: u64) -> &'a PacketCell {
        &self.cells[position as usize & (self.cells.len() - 1)]
    }
}

/// Why a packet was not stored. The caller drops and counts it: nobody waits for room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Every cell holds a packet that the other side has not taken yet.
    Full,
    /// Larger than a cell.
    Oversized,
}

/// The writing end.
pub struct Producer<'a> {
    ring: PacketRing<'a>,
    /// Where the next packet goes.
    head: u64,
    /// What the consumer has been shown.
    published: u64,
    /// The consumer's position as last seen.
    tail: u64,
}

impl Producer<'_> {
    /// Writes a packet. The consumer sees it after the next [`Producer::publish`].
    pub fn push(&mut self, packet: &[u8]) -> Result<(), Refusal> {
        if packet.len() > PACKET_BYTES {
            return Err(Refusal::Oversized);
        }
        if self.is_full() {
            self.tail = self.ring.ends.tail.load(Ordering::Acquire); // the cell was read before: pairs with pop()
            if self.is_full() {
                return Err(Refusal::Full);
            }
        }
        self.ring.cell(self.head).write(packet);
        self.head = self.head.wrapping_add(1);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.head.wrapping_sub(self.tail) >= self.ring.capacity()
    }

    /// Shows the consumer what was pushed, with one store for the whole burst. False if there was nothing.
    pub fn publish(&mut self) -> bool {
        if self.published == self.head {
            return false;
        }
        self.ring.ends.head.store(self.head, Ordering::Release); // the cells are whole: pairs with pop()
        self.published = self.head;
        true
    }
}

/// The reading end.
pub struct Consumer<'a> {
    ring: PacketRing<'a>,
    /// Where the next packet is.
    tail: u64,
    /// The producer's position as last seen.
    head: u64,
}

impl Consumer<'_> {
    /// Takes the oldest packet: copies it out, and says how long it is.
    pub fn pop(&mut self, to: &mut [u8]) -> Option<usize> {
        if !self.has_packet() {
            return None;
        }
        let length = self.ring.cell(self.tail).read(to);
        self.tail = self.tail.wrapping_add(1);
        self.ring.ends.tail.store(self.tail, Ordering::Release); // the cell may be written again: pairs with push()
        Some(length)
    }

    /// Whether there is one to take.
    pub fn has_packet(&mut self) -> bool {
        if self.head == self.tail {
            self.head = self.ring.ends.head.load(Ordering::Acquire); // pairs with publish()
        }
        let waiting = self.head.wrapping_sub(self.tail);
        if waiting > self.ring.capacity() {
            self.head = self.tail; // looked at again next time
            return false;
        }
        waiting != 0
    }
}

/// How the daemon sleeps without missing a packet, and without costing a system call while it is awake.
///
/// ```text
///  daemon                                     switcher
///    fall_asleep(): naps becomes odd            publish()
///      fence                                      fence
///    has_packet()? then wake_up() and go on     must_wake(): naps odd, and not yet woken from this nap?
///    else wait for the event                      then signal the event
///    wake_up(): naps becomes even
/// ```
///
/// Both store first and load after, with a sequentially consistent fence between, so that the daemon sees the packet or
/// the switcher sees the nap. The daemon alone writes the word.
#[repr(C)]
#[cfg_attr(not(loom), derive(FromBytes, KnownLayout))]
pub struct Naps(AtomicU64);

impl Naps {
    /// The daemon's: says that it is about to sleep. Look for packets again after this, before sleeping.
    pub fn fall_asleep(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
        fence(Ordering::SeqCst); // my word before my second look: pairs with must_wake()
    }

    /// The daemon's: says that it is awake.
    pub fn wake_up(&self) {
        self.0.store((self.0.load(Ordering::Relaxed) | 1).wrapping_add(1), Ordering::Relaxed);
    }

    /// How often it has slept.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed).div_ceil(2)
    }

    /// Whether it sleeps now.
    pub fn is_asleep(&self) -> bool {
        self.0.load(Ordering::Relaxed) & 1 == 1
    }
}

/// The switcher's side of [`Naps`].
pub struct Waker<'a> {
    naps: &'a Naps,
    woken_from: u64,
}

impl<'a> Waker<'a> {
    /// Nobody was woken yet.
    pub fn new(naps: &'a Naps) -> Self {
        Self { naps, woken_from: 0 }
    }

    /// After [`Producer::publish`]: whether the daemon has to be signalled. True once a nap at the most.
    pub fn must_wake(&mut self) -> bool {
        fence(Ordering::SeqCst); // what I published before my look at the word: pairs with fall_asleep()
        let nap = self.naps.0.load(Ordering::Relaxed);
        let must = nap & 1 == 1 && nap != self.woken_from;
        if must {
            self.woken_from = nap;
        }
        must
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::FromZeros;

    struct Memory(StoreEnds, Vec<PacketCell>);

    impl Memory {
        fn new(cells: usize) -> Self {
            Self(StoreEnds::new_zeroed(), (0..cells).map(|_| PacketCell::new_zeroed()).collect())
        }

        fn ring(&self) -> PacketRing<'_> {
            PacketRing::new(&self.0, &self.1).unwrap()
        }
    }

    fn take(consumer: &mut Consumer<'_>) -> Option<Vec<u8>> {
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
        assert!(take(&mut memory.ring().consumer()).is_some());
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
        let naps = Naps::new_zeroed();
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
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;

    fn ring(cells: usize) -> PacketRing<'static> {
        let make = || AtomicU64::new(0);
        let apart = || core::array::from_fn(|_| make());
        let ends = Box::leak(Box::new(StoreEnds { head: make(), _apart: apart(), tail: make(), _end: apart() }));
        let cell = || PacketCell { length: make(), words: core::array::from_fn(|_| make()) };
        PacketRing::new(ends, Box::leak((0..cells).map(|_| cell()).collect())).unwrap()
    }

    #[test]
    fn loom_store_keeps_order_and_wholeness() {
        loom::model(|| {
            let ring = ring(2);
            let producer = loom::thread::spawn(move || {
                let mut producer = ring.producer();
                for n in 1..=3u8 {
                    let _ = producer.push(&vec![n; n as usize]);
                    producer.publish();
                }
            });
            let (mut consumer, mut packet, mut last) = (ring.consumer(), [0; 8], 0);
            for _ in 0..3 {
                if let Some(length) = consumer.pop(&mut packet) {
                    assert!(length > last);
                    assert!(packet[..length].iter().all(|byte| usize::from(*byte) == length));
                    last = length;
                }
            }
            producer.join().unwrap();
        });
    }

    #[test]
    fn loom_no_wake_up_is_lost() {
        loom::model(|| {
            let ring = ring(2);
            let naps: &'static Naps = Box::leak(Box::new(Naps(AtomicU64::new(0))));
            let switcher = loom::thread::spawn(move || {
                let (mut producer, mut waker) = (ring.producer(), Waker::new(naps));
                producer.push(&[1]).unwrap();
                producer.publish() && waker.must_wake()
            });
            let mut consumer = ring.consumer();
            naps.fall_asleep();
            let sees_it = consumer.has_packet();
            let is_woken = switcher.join().unwrap();
            assert!(sees_it || is_woken, "asleep beside a packet");
        });
    }
}
