//! The packet store (patent Fig. 8, data packet storage area 68): rings whose cells each hold one whole packet in place.
//!
//! ```text
//!  switcher N                                              ifdaemon
//!    Producer::push, push, ... publish                        Consumer::pop  -> device        ring "to_host"
//!    Consumer::pop -> route, send                             Producer::push, ... publish     ring "from_host"
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
#[cfg_attr(not(loom), derive(zerocopy::FromBytes))]
pub struct StoreEnds<P = Reader, C = Reader> {
    head: Word<P>,
    _apart: [Word<P>; 7],
    tail: Word<C>,
    _end: [Word<C>; 7],
}

described!(StoreEnds<P, C> { head, _apart, tail, _end });

/// Room for one packet. An odd number of cache lines, so that the beginnings of cells don't fall on few cache sets.
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

/// A view of one ring, with the accesses of its producer and of its consumer. The number of cells is a power of two.
///
/// It gives out the two ends, which are neither `Clone` nor `Copy` and move only by `&mut`: whoever owns one has it alone.
#[derive(Clone, Copy)]
pub struct PacketRing<'a, P = Reader, C = Reader> {
    ends: &'a StoreEnds<P, C>,
    cells: &'a [PacketCell<P>],
}

impl<'a, P, C> PacketRing<'a, P, C> {
    /// Joins the two parts; `None` if the number of cells isn't a power of two.
    pub fn new(ends: &'a StoreEnds<P, C>, cells: &'a [PacketCell<P>]) -> Option<Self> {
        cells.len().is_power_of_two().then_some(Self { ends, cells })
    }

    /// Packets published and not yet taken, for whoever watches.
    pub fn depth(&self) -> u64 {
        let tail = self.ends.tail.load(Ordering::Relaxed);
        self.ends.head.load(Ordering::Relaxed).wrapping_sub(tail).min(self.capacity())
    }

    /// Packets that fit.
    pub fn capacity(&self) -> u64 {
        self.cells.len() as u64
    }

    fn cell(&self, position: u64) -> &'a PacketCell<P> {
        &self.cells[position as usize & (self.cells.len() - 1)]
    }
}

impl<'a, C> PacketRing<'a, Writer, C> {
    /// The writing end. Only one process may have it, which the keeper sees to.
    pub fn producer(self) -> Producer<'a, C> {
        let head = self.ends.head.load(Ordering::Relaxed);
        let tail = self.ends.tail.load(Ordering::Acquire);
        Producer { ring: self, head, published: head, tail }
    }
}

impl<'a, P> PacketRing<'a, P, Writer> {
    /// The reading end. Only one process may have it, which the keeper sees to.
    pub fn consumer(self) -> Consumer<'a, P> {
        let tail = self.ends.tail.load(Ordering::Relaxed);
        Consumer { ring: self, tail, head: tail }
    }
}

#[cfg(not(loom))]
impl<'a, P: Access, C: Access> PacketRing<'a, P, C> {
    /// The same ring with no more rights.
    pub fn lend<Q: Access, D: Access>(&self) -> PacketRing<'a, Q, D>
    where
        P: Lends<Q>,
        C: Lends<D>,
    {
        PacketRing { ends: lend_one(self.ends), cells: lend(self.cells) }
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
pub struct Producer<'a, C = Reader> {
    ring: PacketRing<'a, Writer, C>,
    /// Where the next packet goes.
    head: u64,
    /// What the consumer has been shown.
    published: u64,
    /// The consumer's position as last seen.
    tail: u64,
}

impl<C> Producer<'_, C> {
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

    /// Packets that fit into the empty ring.
    pub fn capacity(&self) -> u64 {
        self.ring.capacity()
    }

    /// Packets that can be pushed. For a producer that may wait, which the switcher never does.
    pub fn room(&mut self) -> u64 {
        self.tail = self.ring.ends.tail.load(Ordering::Acquire); // the cells were read before: pairs with pop()
        self.ring.capacity().saturating_sub(self.head.wrapping_sub(self.tail))
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
pub struct Consumer<'a, P = Reader> {
    ring: PacketRing<'a, P, Writer>,
    /// Where the next packet is.
    tail: u64,
    /// The producer's position as last seen.
    head: u64,
}

impl<P> Consumer<'_, P> {
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

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
