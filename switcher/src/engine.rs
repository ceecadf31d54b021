//! The packet engine (patent Fig. 5, packet engine module 72): polls the switcher's ports, forever.
//!
//! It owns the ports, the frame pool and the filter, and writes the switcher's region. Nothing in a turn locks,
//! allocates, logs or calls the system, but for one kick per burst of sent frames and, with busy polling, one call per turn
//! and queue that fetches what the device has received.

use std::os::fd::BorrowedFd;

use crate::egress::{Attachment, Egress, Held};
use crate::filter::{Filter, PacketMetadata, prefetch};
use crate::port::{BATCH, Batch, Pool};
use crate::unresolved_queue::UnresolvedQueue;
use shunt_packet::Buffer;
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::address::InterfaceId;
use shunt_shmlayout::drop_reason::DropReason;
use shunt_shmlayout::flip::{self, Active};
use shunt_shmlayout::regions::{ControlRegion, SwitcherRegion};

/// Connections that a turn sweeps, with and without packets.
const SWEEP_BUSY: usize = 32;
const SWEEP_IDLE: usize = 512;
/// Interval of reading the kernel's loss counters.
const LOSSES_MS: u64 = 1000;

/// A switcher's engine.
pub struct Engine {
    egress: Egress,
    filter: Filter,
    control: &'static ControlRegion,
    region: SwitcherRegion<Writer>,
    active: Active,
    batch: Batch,
    metadata: Box<[PacketMetadata; BATCH]>,
    unresolved: UnresolvedQueue,
    losses_due_ms: u64,
}

impl Engine {
    /// Step 100: everything is in place.
    pub fn new(
        ports: Vec<Attachment>,
        pool: Pool,
        filter: Filter,
        control: &'static ControlRegion,
        region: SwitcherRegion<Writer>,
    ) -> Self {
        Self {
            egress: Egress::new(ports, pool, region),
            filter,
            control,
            region,
            active: Active::NONE,
            batch: Batch::default(),
            metadata: Box::new([PacketMetadata::NONE; BATCH]),
            unresolved: UnresolvedQueue::default(),
            losses_due_ms: 0,
        }
    }

    /// What becomes readable when there is something to receive.
    pub fn readable(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.egress.ports.iter().filter(|it| it.receives).filter_map(|it| it.port.readable())
    }

    /// One turn over all ports (Fig. 5). Returns how many frames were received.
    pub fn turn(&mut self, now_ms: u64) -> usize {
        self.follow_configuration();
        let mut received = 0;
        for port in 0..self.egress.ports.len() {
            // Step 106: the next interface. Steps 102 and 104: poll it. Steps 108 to 112: each of its packets.
            self.receive(port);
            received += self.batch.len();
            self.pass_to_filter(port, now_ms);
        }
        self.retry_unresolved(now_ms);
        for Attachment { port, .. } in &mut self.egress.ports {
            port.flush(&mut self.egress.pool);
        }
        self.housekeeping(received, now_ms);
        received
    }

    fn follow_configuration(&mut self) {
        let active = flip::follow(&self.control.head.active, &self.region.head.in_use, self.active);
        if active != self.active {
            self.active = active;
            self.filter.follow(&self.control.generations[active.buffer()]);
        }
    }

    fn receive(&mut self, from: usize) {
        let Attachment { port, interface, receives } = &mut self.egress.ports[from];
        if !*receives {
            return;
        }
        port.receive(&mut self.egress.pool, &mut self.batch);
        if self.batch.is_empty() {
            return;
        }
        let bytes: u64 = self.batch.frames().iter().map(|frame| u64::from(frame.length())).sum();
        self.region.head.received.add(self.batch.len() as u64);
        if let Some(counters) = self.region.interfaces.get(usize::from(interface.0)) {
            counters.received.add(self.batch.len() as u64);
            counters.bytes_received.add(bytes);
        }
    }

    /// Step 110, for a batch: each step of the filter over all frames, so that their cache misses overlap.
    fn pass_to_filter(&mut self, from: usize, now_ms: u64) {
        let Self { egress, filter, batch, metadata, unresolved, .. } = self;
        let (interface, kernel_has_it) = (egress.ports[from].interface, egress.ports[from].port.kernel_has_it());
        for frame in batch.frames() {
            prefetch::line(egress.pool.bytes(frame).as_ptr()); // another core wrote it, or the device
        }
        for (frame, parsed) in batch.frames().iter().zip(metadata.iter_mut()) {
            *parsed = filter.parse(egress.pool.bytes(frame), interface, kernel_has_it);
        }
        for parsed in &mut metadata[..batch.len()] {
            filter.prefetch(parsed);
        }
        for (frame, parsed) in batch.drain().zip(metadata.iter()) {
            let decide = |buffer: &mut Buffer<'_>| filter.decide(buffer, parsed, interface, now_ms);
            let (frame, verdict) = egress.pool.change(frame, decide);
            if let Some(Held { frame, to }) = egress.apply_verdict(verdict, frame, from)
                && let Err(frame) = unresolved.push(frame, to, now_ms)
            {
                egress.discard(frame, DropReason::Unresolved);
            }
        }
    }

    /// Decides again about the host's packets whose next hop had no Ethernet address.
    fn retry_unresolved(&mut self, now_ms: u64) {
        let Self { egress, filter, unresolved, .. } = self;
        for _ in 0..unresolved.due(now_ms) {
            let (Some(mut packet), Some(from)) = (unresolved.pop(), egress.host()) else { return };
            let metadata = filter.parse(egress.pool.bytes(&packet.frame), InterfaceId::HOST, false);
            let decide = |buffer: &mut Buffer<'_>| filter.decide(buffer, &metadata, InterfaceId::HOST, now_ms);
            let (frame, verdict) = egress.pool.change(packet.frame, decide);
            let Some(Held { frame, .. }) = egress.apply_verdict(verdict, frame, from) else { continue };
            packet.frame = frame;
            match packet.is_expired(now_ms) {
                true => egress.discard(packet.frame, DropReason::Unresolved),
                false => unresolved.push_back(packet),
            }
        }
    }

    /// Housekeeping, bounded for each turn: expiry, heartbeat, the kernel's loss counters.
    fn housekeeping(&mut self, received: usize, now_ms: u64) {
        let head = self.region.head;
        head.turns.add(1);
        head.idle_turns.add(u64::from(received == 0));
        head.heartbeat_ms.set(now_ms);
        self.filter.sweep(if received == 0 { SWEEP_IDLE } else { SWEEP_BUSY }, now_ms);
        if now_ms >= self.losses_due_ms {
            self.losses_due_ms = now_ms + LOSSES_MS;
            self.count_losses();
        }
    }

    /// Adds each port's new losses to counters that outlive this process and its sockets.
    fn count_losses(&mut self) {
        for Attachment { port, interface, .. } in &mut self.egress.ports {
            if let Some(counters) = self.region.interfaces.get(usize::from(interface.0)) {
                let lost = port.losses();
                counters.missed.add(lost.ring_full + lost.no_frame + lost.invalid);
                counters.errors.add(lost.send_errors);
                port.commit_losses();
            }
        }
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
