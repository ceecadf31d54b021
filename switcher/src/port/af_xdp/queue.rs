//! One AF_XDP queue's four rings, and how frames move between them and the pool (patent Figs 12 and 13), with each
//! change of ownership written down in the order that [`crate::port::Ledger`] explains.

use std::sync::atomic::Ordering;

use super::ring::{AddressSlot, Consumer, Descriptor, PacketSlot, Producer, Ring};
use crate::port::ownership::before_store;
use crate::port::{Batch, Frame, Ledger, Pool, Standing};
use shunt_shmlayout::frames::{CHUNK, FrameOwner};

/// Free frames are offered to the kernel this many at a time at least, so that the shared cache lines move seldom.
const REFILL: u32 = 32;

pub(super) struct Rings {
    pub fill: Ring<AddressSlot>,
    pub completion: Ring<AddressSlot>,
    pub receive: Ring<PacketSlot>,
    pub transmit: Ring<PacketSlot>,
}

pub(super) struct Queue {
    port: u8,
    fill: Producer<AddressSlot>,
    completion: Consumer<AddressSlot>,
    receive: Consumer<PacketSlot>,
    transmit: Producer<PacketSlot>,
    /// Descriptors from the kernel that name no frame of the pool.
    invalid: u64,
}

impl Queue {
    /// Goes on where the rings stand.
    pub fn resume(port: u8, rings: Rings) -> Queue {
        Queue {
            port,
            fill: Producer::resume(rings.fill),
            completion: Consumer::resume(rings.completion),
            receive: Consumer::resume(rings.receive),
            transmit: Producer::resume(rings.transmit),
            invalid: 0,
        }
    }

    /// What stands in the rings, before the pool is recovered.
    pub fn standing(&self, ledger: &Ledger) -> Standing {
        let journal = ledger.journal(self.port);
        Standing {
            port: self.port,
            fill_burst: self.fill.ring.published_since(journal.receive.load(Ordering::Acquire)),
            transmit_burst: self.transmit.ring.published_since(journal.transmit.load(Ordering::Acquire)),
            received: self.receive.ring.standing(),
            completed: self.completion.ring.standing(),
            fill_producer: self.fill.ring.producer(),
            transmit_producer: self.transmit.ring.producer(),
        }
    }

    /// Takes received packets (Fig. 13, steps 342 to 344).
    #[inline]
    pub fn receive(&mut self, pool: &mut Pool, batch: &mut Batch) {
        let available = self.receive.available(batch.room() as u32);
        if available == 0 {
            return;
        }
        for _ in 0..available {
            let Descriptor { address, length } = self.receive.pop();
            if !pool.contains(address, length) {
                self.invalid += 1;
                continue;
            }
            pool.ledger().mark(address, FrameOwner::Held);
            if let Err(frame) = batch.push(Frame { address, length }) {
                pool.give(frame);
            }
        }
        self.receive.release();
    }

    /// Whether the receive ring is empty.
    #[inline]
    pub fn has_received_nothing(&mut self) -> bool {
        self.receive.available(1) == 0
    }

    /// Writes one frame's descriptor, unpublished (Fig. 12, step 323).
    #[inline]
    pub fn send(&mut self, pool: &Pool, frame: Frame) -> Result<(), Frame> {
        if self.transmit.free(1) == 0 {
            return Err(frame);
        }
        if self.transmit.unpublished() == 0 {
            before_store();
            pool.ledger().journal(self.port).transmit.store(self.transmit.start(), Ordering::Release);
        }
        pool.ledger().mark(frame.address, FrameOwner::Pending);
        self.transmit.write(Descriptor { address: frame.address, length: frame.length });
        Ok(())
    }

    /// How many frames were queued since the last [`Queue::publish`].
    #[inline]
    pub fn unpublished(&self) -> u32 {
        self.transmit.unpublished()
    }

    /// Hands the queued frames to the kernel (Fig. 12, step 324).
    #[inline]
    pub fn publish(&mut self, pool: &Pool) {
        if self.transmit.unpublished() == 0 {
            return;
        }
        let start = self.transmit.start();
        self.transmit.publish();
        for address in self.transmit.written_since(start) {
            pool.ledger().mark(address, FrameOwner::Transmitting(self.port));
        }
        before_store();
        pool.ledger().journal(self.port).transmit.store(self.transmit.start(), Ordering::Release);
    }

    /// Takes sent frames back (Fig. 12, steps 325 and 326).
    #[inline]
    pub fn reclaim(&mut self, pool: &mut Pool) {
        let available = self.completion.available(u32::MAX);
        if available == 0 {
            return;
        }
        for _ in 0..available {
            let Descriptor { address, .. } = self.completion.pop();
            if !pool.contains(address, 0) {
                self.invalid += 1;
                continue;
            }
            pool.ledger().mark(address, FrameOwner::Held);
            pool.give(Frame { address, length: 0 });
        }
        self.completion.release();
    }

    /// Passes free frames to the kernel (Fig. 13, step 341).
    #[inline]
    pub fn refill(&mut self, pool: &mut Pool) {
        let free = self.fill.free(REFILL);
        if free < REFILL || pool.free() == 0 {
            return;
        }
        let journal = pool.ledger().journal(self.port);
        let start = self.fill.start();
        before_store();
        journal.receive.store(start, Ordering::Release);
        for _ in 0..free {
            let Some(frame) = pool.take() else { break };
            pool.ledger().mark(frame.address, FrameOwner::Pending);
            self.fill.write(Descriptor { address: frame.address / CHUNK * CHUNK, length: 0 });
        }
        self.fill.publish();
        for address in self.fill.written_since(start) {
            pool.ledger().mark(address, FrameOwner::Receiving(self.port));
        }
        before_store();
        journal.receive.store(self.fill.start(), Ordering::Release);
    }

    /// Whether the kernel still has published frames to send and wants a kick for it.
    #[inline]
    pub fn wants_kick(&self) -> bool {
        self.transmit.is_waiting() && self.transmit.ring.needs_wakeup()
    }

    /// Whether the driver sleeps until it is told of new free frames (zero-copy).
    #[inline]
    pub fn wants_fill_wakeup(&self) -> bool {
        self.fill.ring.needs_wakeup()
    }

    /// Descriptors refused since the last call.
    pub fn take_invalid(&mut self) -> u64 {
        std::mem::take(&mut self.invalid)
    }
}
