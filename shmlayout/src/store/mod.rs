//! The packet store (patent Fig. 8, data packet storage area 68): rings whose cells each hold one whole packet in place.
//!
//! ```text
//!  switcher N                                              ifdaemon
//!    Producer::push, push, ... publish                        Consumer::pop  -> device        ring "to_host"
//!    Consumer::pop -> route, send                             Producer::push, ... publish     ring "from_host"
//! ```
//!
//! Each ring has one producer and one consumer. `head` counts published packets, `tail` taken ones; both increase without
//! bound and are masked on use. Each side caches the other's position and refreshes it only when the ring appears full or
//! empty, so a busy ring moves few cache lines between the two processors.
//!
//! Either side may be killed at any instruction; its successor continues from the positions in memory. A partly written
//! packet was not published, and its cell is rewritten; a packet being copied out has not advanced `tail` and is read again.
//! Packets that a dead consumer had popped but not yet forwarded are lost.
//!
//! Neither side trusts the other: if the distance exceeds the ring, the producer treats it as full and the consumer as empty;
//! a length beyond the cell is truncated.

mod doorbell;

#[cfg(not(loom))]
use crate::access::{Access, Lends};
use crate::access::{Reader, Writer};
use crate::layout::described;
#[cfg(not(loom))]
use crate::map::{lend, lend_one};
use crate::sync::Ordering;
use crate::word::Word;
pub use doorbell::{Doorbell, Ringer};

/// Words of a packet in a cell: 2048 bytes, the size of a frame.
#[cfg(not(loom))]
pub const PACKET_WORDS: usize = 256;
/// Words of a packet in a cell; one, to bound loom's state space.
#[cfg(loom)]
pub const PACKET_WORDS: usize = 1;
/// Largest packet, in bytes.
pub const PACKET_BYTES: usize = 8 * PACKET_WORDS;

/// The positions of producer and consumer, each on its own cache line.
#[repr(C, align(64))]
#[cfg_attr(not(loom), derive(zerocopy::FromBytes))]
pub struct StoreEnds<P = Reader, C = Reader> {
    head: Word<P>,
    _apart: [Word<P>; 7],
    tail: Word<C>,
    _end: [Word<C>; 7],
}

described!(StoreEnds<P, C> { head, _apart, tail, _end });

/// Storage for one packet. Its size is an odd number of cache lines, so that cells spread over all cache sets.
#[repr(C, align(64))]
#[cfg_attr(not(loom), derive(zerocopy::FromBytes))]
pub struct PacketCell<A = Reader> {
    length: Word<A>,
    words: [Word<A>; PACKET_WORDS],
    #[cfg(not(loom))]
    _end: [Word<A>; 7],
}

described!(PacketCell<A> { length, words, _end });

#[cfg(not(loom))]
const _: () = assert!(size_of::<PacketCell>() == 33 * 64);

impl PacketCell<Writer> {
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
}

impl<A> PacketCell<A> {
    /// Copies the packet into `to`, truncated if too long. Returns the copied length.
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

/// A view of one ring, with the accesses of its producer and its consumer. The number of cells is a power of two.
///
/// It creates the two ends, which are neither `Clone` nor `Copy` and need `&mut` to advance: the owner has exclusive use.
#[derive(Clone, Copy)]
pub struct PacketRing<'a, P = Reader, C = Reader> {
    ends: &'a StoreEnds<P, C>,
    cells: &'a [PacketCell<P>],
}

impl<'a, P, C> PacketRing<'a, P, C> {
    /// Combines the two parts; `None` if the number of cells is not a power of two.
    pub fn new(ends: &'a StoreEnds<P, C>, cells: &'a [PacketCell<P>]) -> Option<Self> {
        cells.len().is_power_of_two().then_some(Self { ends, cells })
    }

    /// Number of packets published and not yet taken, for monitoring.
    pub fn depth(&self) -> u64 {
        let tail = self.ends.tail.load(Ordering::Relaxed);
        self.ends.head.load(Ordering::Relaxed).wrapping_sub(tail).min(self.capacity())
    }

    /// Number of packets that fit.
    pub fn capacity(&self) -> u64 {
        self.cells.len() as u64
    }

    fn cell(&self, position: u64) -> &'a PacketCell<P> {
        &self.cells[position as usize & (self.cells.len() - 1)]
    }
}

impl<'a, C> PacketRing<'a, Writer, C> {
    /// The writing end. The keeper ensures that only one process has it.
    pub fn producer(self) -> PacketProducer<'a, C> {
        let head = self.ends.head.load(Ordering::Relaxed);
        let tail = self.ends.tail.load(Ordering::Acquire);
        PacketProducer { ring: self, head, published: head, tail }
    }
}

impl<'a, P> PacketRing<'a, P, Writer> {
    /// The reading end. The keeper ensures that only one process has it.
    pub fn consumer(self) -> PacketConsumer<'a, P> {
        let tail = self.ends.tail.load(Ordering::Relaxed);
        PacketConsumer { ring: self, tail, head: tail }
    }
}

#[cfg(not(loom))]
impl<'a, P: Access, C: Access> PacketRing<'a, P, C> {
    /// The same ring with equal or fewer rights.
    pub fn lend<Q: Access, D: Access>(&self) -> PacketRing<'a, Q, D>
    where
        P: Lends<Q>,
        C: Lends<D>,
    {
        PacketRing { ends: lend_one(self.ends), cells: lend(self.cells) }
    }
}

/// Why a packet was not stored. The caller drops and counts it without waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PushError {
    /// All cells hold packets that the consumer has not taken yet.
    Full,
    /// Larger than a cell.
    Oversized,
}

/// The writing end.
pub struct PacketProducer<'a, C = Reader> {
    ring: PacketRing<'a, Writer, C>,
    /// Position of the next packet.
    head: u64,
    /// The position that the consumer can see.
    published: u64,
    /// Cached position of the consumer.
    tail: u64,
}

impl<C> PacketProducer<'_, C> {
    /// Writes a packet. The consumer sees it after the next [`PacketProducer::publish`].
    pub fn push(&mut self, packet: &[u8]) -> Result<(), PushError> {
        if packet.len() > PACKET_BYTES {
            return Err(PushError::Oversized);
        }
        if self.is_full() {
            self.tail = self.ring.ends.tail.load(Ordering::Acquire); // the consumer has read the cell: pairs with pop()
            if self.is_full() {
                return Err(PushError::Full);
            }
        }
        self.ring.cell(self.head).write(packet);
        self.head = self.head.wrapping_add(1);
        Ok(())
    }

    /// Number of packets that fit into the empty ring.
    pub fn capacity(&self) -> u64 {
        self.ring.capacity()
    }

    /// Number of packets that can be pushed now. For a producer that may wait; the switcher never does.
    pub fn room(&mut self) -> u64 {
        self.tail = self.ring.ends.tail.load(Ordering::Acquire); // the consumer has read the cells: pairs with pop()
        self.ring.capacity().saturating_sub(self.head.wrapping_sub(self.tail))
    }

    fn is_full(&self) -> bool {
        self.head.wrapping_sub(self.tail) >= self.ring.capacity()
    }

    /// Publishes the pushed packets with one store for the whole burst. Returns false if there are none.
    pub fn publish(&mut self) -> bool {
        if self.published == self.head {
            return false;
        }
        self.ring.ends.head.store(self.head, Ordering::Release); // after the cells: pairs with pop()
        self.published = self.head;
        true
    }
}

/// The reading end.
pub struct PacketConsumer<'a, P = Reader> {
    ring: PacketRing<'a, P, Writer>,
    /// Position of the next packet.
    tail: u64,
    /// Cached position of the producer.
    head: u64,
}

impl<P> PacketConsumer<'_, P> {
    /// Removes the oldest packet: copies it into `to` and returns its length.
    pub fn pop(&mut self, to: &mut [u8]) -> Option<usize> {
        if !self.has_packet() {
            return None;
        }
        let length = self.ring.cell(self.tail).read(to);
        self.tail = self.tail.wrapping_add(1);
        self.ring.ends.tail.store(self.tail, Ordering::Release); // the cell may be reused: pairs with push()
        Some(length)
    }

    /// Whether a packet is available.
    pub fn has_packet(&mut self) -> bool {
        if self.head == self.tail {
            self.head = self.ring.ends.head.load(Ordering::Acquire); // pairs with publish()
        }
        let waiting = self.head.wrapping_sub(self.tail);
        if waiting > self.ring.capacity() {
            self.head = self.tail; // reload it next time
            return false;
        }
        waiting != 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
