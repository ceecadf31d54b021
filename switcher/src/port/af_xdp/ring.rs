//! The four rings that an AF_XDP socket shares with the kernel, single producer and single consumer each.
//!
//! Fill and transmit: this side produces, the kernel consumes. Receive and completion: the other way round. Whoever
//! produces writes slots, then stores the producer with `Release`; whoever consumes loads the producer with `Acquire`,
//! copies the slots, then stores the consumer with `Release`, which pairs with the producer's `Acquire` load of it before
//! the slots are used again. Indexes run freely and wrap; the ring's size is a power of two.
//!
//! All of it is atomics, so that reading what the kernel writes is no data race; a copied slot is checked by its user.
#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use super::MapError;
use crate::port::ownership::before_store;

/// What a ring's slot holds: an address alone (fill, completion) or with a length (receive, transmit).
pub(super) trait Slot: 'static {
    fn load(&self) -> Descriptor;
    fn store(&self, descriptor: Descriptor);
}

/// A copy of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub address: u64,
    pub length: u32,
}

/// `struct xdp_desc`.
#[repr(C)]
pub(super) struct PacketSlot {
    address: AtomicU64,
    length: AtomicU32,
    options: AtomicU32,
}

impl Slot for PacketSlot {
    #[inline]
    fn load(&self) -> Descriptor {
        Descriptor { address: self.address.load(Ordering::Relaxed), length: self.length.load(Ordering::Relaxed) }
    }

    #[inline]
    fn store(&self, descriptor: Descriptor) {
        self.address.store(descriptor.address, Ordering::Relaxed);
        self.length.store(descriptor.length, Ordering::Relaxed);
        self.options.store(0, Ordering::Relaxed);
    }
}

/// A chunk's address, as the fill and completion rings have it.
#[repr(transparent)]
pub(super) struct AddressSlot(AtomicU64);

impl Slot for AddressSlot {
    #[inline]
    fn load(&self) -> Descriptor {
        Descriptor { address: self.0.load(Ordering::Relaxed), length: 0 }
    }

    #[inline]
    fn store(&self, descriptor: Descriptor) {
        self.0.store(descriptor.address, Ordering::Relaxed);
    }
}

/// A ring's words and slots, wherever they are mapped.
pub(super) struct Ring<S: Slot> {
    producer: &'static AtomicU32,
    consumer: &'static AtomicU32,
    flags: &'static AtomicU32,
    slots: &'static [S],
    /// What the references above point into; they never leave this struct, so they don't outlive it.
    _mapping: Option<Arc<MmapRaw>>,
}

impl<S: Slot> Ring<S> {
    /// Maps a bound socket's ring. `page_offset` says which, `offsets` where its parts are.
    pub fn map(
        socket: BorrowedFd<'_>,
        page_offset: u64,
        offsets: &libc::xdp_ring_offset,
        slots: u32,
    ) -> Result<Ring<S>, MapError> {
        use std::os::fd::AsRawFd;
        let length = offsets.desc as usize + slots as usize * size_of::<S>();
        let mapping = MmapOptions::new()
            .offset(page_offset)
            .len(length)
            .populate()
            .map_raw(socket.as_raw_fd())
            .map_err(|error| MapError::Map { slots, error })?;
        let within = |offset: u64| offset + 4 <= offsets.desc && offset.is_multiple_of(4);
        if !(within(offsets.producer) && within(offsets.consumer) && within(offsets.flags)) {
            return Err(MapError::Offsets);
        }
        let base = mapping.as_mut_ptr();
        // SAFETY: producer, consumer and flags are aligned words before `desc` (checked), and the mapping is `length` long,
        // so all is inside it. It is page-aligned and the kernel aligns `desc` to a cache line. The mapping is kept in
        // `_mapping` for as long as the references. Words and slots are atomics, so the kernel may write them any time.
        let ring = unsafe {
            Ring {
                producer: &*base.add(offsets.producer as usize).cast::<AtomicU32>(),
                consumer: &*base.add(offsets.consumer as usize).cast::<AtomicU32>(),
                flags: &*base.add(offsets.flags as usize).cast::<AtomicU32>(),
                slots: std::slice::from_raw_parts(base.add(offsets.desc as usize).cast::<S>(), slots as usize),
                _mapping: Some(Arc::new(mapping)),
            }
        };
        Ok(ring)
    }

    #[inline]
    fn slot(&self, index: u32) -> &S {
        // The size is a power of two (checked when the port is mapped), so the mask is in range.
        &self.slots[index as usize & (self.slots.len() - 1)]
    }

    fn size(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Whether the kernel asks to be woken to go on with this ring.
    #[inline]
    pub fn needs_wakeup(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    /// The published descriptors from `start` on: none if `start` is no index of the last lap.
    pub fn published_since(&self, start: u32) -> Vec<u64> {
        let published = self.producer.load(Ordering::Acquire).wrapping_sub(start);
        let published = if published > self.size() { 0 } else { published };
        (0..published).map(|n| self.slot(start.wrapping_add(n)).load().address).collect()
    }

    /// The descriptors that the consumer hasn't released.
    pub fn standing(&self) -> Vec<u64> {
        self.published_since(self.consumer.load(Ordering::Acquire))
    }

    /// The producer's index as published.
    pub fn producer(&self) -> u32 {
        self.producer.load(Ordering::Acquire)
    }
}

/// This side produces (fill, transmit).
pub(super) struct Producer<S: Slot> {
    pub ring: Ring<S>,
    /// Next index to write; slots from the shared producer up to it are written but not published.
    next: u32,
    /// The kernel's consumer, as last seen.
    consumed: u32,
}

impl<S: Slot> Producer<S> {
    /// Goes on where the ring stands.
    pub fn resume(ring: Ring<S>) -> Self {
        let (next, consumed) = (ring.producer(), ring.consumer.load(Ordering::Acquire));
        Self { ring, next, consumed }
    }

    /// Free slots; looks at the kernel's consumer only if fewer than `wanted` are known to be free.
    #[inline]
    pub fn free(&mut self, wanted: u32) -> u32 {
        if self.known_free() < wanted {
            self.consumed = self.ring.consumer.load(Ordering::Acquire);
        }
        self.known_free()
    }

    #[inline]
    fn known_free(&self) -> u32 {
        self.ring.size().saturating_sub(self.next.wrapping_sub(self.consumed))
    }

    /// Writes the next slot. The caller has seen that one is free.
    #[inline]
    pub fn write(&mut self, descriptor: Descriptor) {
        before_store();
        self.ring.slot(self.next).store(descriptor);
        self.next = self.next.wrapping_add(1);
    }

    /// Where the unpublished slots start.
    #[inline]
    pub fn start(&self) -> u32 {
        // Only this side stores the producer.
        self.ring.producer.load(Ordering::Relaxed)
    }

    /// How many slots are written but not published.
    #[inline]
    pub fn unpublished(&self) -> u32 {
        self.next.wrapping_sub(self.start())
    }

    /// Hands the written slots to the kernel.
    #[inline]
    pub fn publish(&mut self) {
        before_store();
        self.ring.producer.store(self.next, Ordering::Release);
    }

    /// The addresses in slots `start..next`, as this side wrote them.
    #[inline]
    pub fn written_since(&self, start: u32) -> impl Iterator<Item = u64> + '_ {
        (0..self.next.wrapping_sub(start)).map(move |n| self.ring.slot(start.wrapping_add(n)).load().address)
    }

    /// Whether the kernel hasn't taken all that was published.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        self.ring.consumer.load(Ordering::Relaxed) != self.start()
    }
}

/// This side consumes (receive, completion).
pub(super) struct Consumer<S: Slot> {
    pub ring: Ring<S>,
    next: u32,
}

impl<S: Slot> Consumer<S> {
    /// Goes on where the ring stands.
    pub fn resume(ring: Ring<S>) -> Self {
        let next = ring.consumer.load(Ordering::Acquire);
        Self { ring, next }
    }

    /// How many descriptors wait, at most `limit`.
    #[inline]
    pub fn available(&self, limit: u32) -> u32 {
        self.ring.producer.load(Ordering::Acquire).wrapping_sub(self.next).min(self.ring.size()).min(limit)
    }

    /// Copies the next waiting descriptor out. The caller has seen that there is one.
    #[inline]
    pub fn pop(&mut self) -> Descriptor {
        let descriptor = self.ring.slot(self.next).load();
        self.next = self.next.wrapping_add(1);
        descriptor
    }

    /// Lets the kernel use the popped slots again.
    #[inline]
    pub fn release(&mut self) {
        before_store();
        self.ring.consumer.store(self.next, Ordering::Release);
    }
}

#[cfg(test)]
impl<S: Slot> Ring<S> {
    /// An empty ring over plain memory, for models: indexes that have counted up to `start`, `slots` made by `make`.
    pub fn in_memory(slots: u32, start: u32, make: fn() -> S) -> Self {
        let word = |value| -> &'static AtomicU32 { Box::leak(Box::new(AtomicU32::new(value))) };
        let slots = Vec::leak((0..slots).map(|_| make()).collect());
        Ring { producer: word(start), consumer: word(start), flags: word(0), slots, _mapping: None }
    }

    /// The same ring, for the other side or a successor.
    pub fn again(&self) -> Self {
        Ring { _mapping: None, ..*self }
    }
}

#[cfg(test)]
impl PacketSlot {
    pub fn empty() -> Self {
        PacketSlot { address: AtomicU64::new(0), length: AtomicU32::new(0), options: AtomicU32::new(0) }
    }
}

#[cfg(test)]
impl AddressSlot {
    pub fn empty() -> Self {
        AddressSlot(AtomicU64::new(0))
    }
}
