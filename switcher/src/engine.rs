//! The packet engine (patent Fig. 5, packet engine module 72): polls the switcher's ports, forever.
//!
//! It owns the ports, the frame pool and the filter, and writes the switcher's region. Nothing in a turn locks,
//! allocates, logs or calls the system, but for one kick per burst of sent frames and, with busy polling, one call per turn
//! and queue that fetches what the device has received.

use crate::filter::{Filter, Prospect, Verdict, prefetch};
use crate::packet::DropReason;
use crate::port::{BATCH, Batch, Frame, Pool, Port};
use shunt_shmlayout::address::InterfaceId;
use shunt_shmlayout::flip::{self, Active};
use shunt_shmlayout::regions::{ControlRegion, SwitcherRegion};

/// Connections looked at in a turn that had packets, and in one that had none.
const SWEEP_BUSY: usize = 32;
const SWEEP_IDLE: usize = 512;
/// How often the kernel is asked what it lost.
const STATISTICS_MS: u64 = 1000;

/// A port and what it belongs to.
pub struct Attachment {
    /// The port.
    pub port: Box<dyn Port>,
    /// The interface whose queue it is.
    pub interface: InterfaceId,
    /// Whether it receives; else it only sends.
    pub receives: bool,
}

/// A switcher's engine.
pub struct Engine {
    ports: Vec<Attachment>,
    /// By interface id: which port sends there.
    way_out: Vec<Option<usize>>,
    /// Which port leads to the box's own programs.
    host: Option<usize>,
    pool: Pool,
    filter: Filter,
    control: &'static ControlRegion,
    region: SwitcherRegion,
    active: Active,
    batch: Batch,
    prospects: Box<[Prospect; BATCH]>,
    statistics_due_ms: u64,
}

impl Engine {
    /// Step 100: everything is in place.
    pub fn new(
        ports: Vec<Attachment>,
        pool: Pool,
        filter: Filter,
        control: &'static ControlRegion,
        region: SwitcherRegion,
    ) -> Self {
        let port_of = |id| ports.iter().position(|port| port.interface == InterfaceId(id));
        let ids = ports.iter().map(|port| port.interface).filter(|id| *id != InterfaceId::HOST);
        let interfaces = ids.map(|id| id.0 + 1).max().unwrap_or(0);
        Self {
            way_out: (0..interfaces).map(port_of).collect(),
            host: port_of(InterfaceId::HOST.0),
            ports,
            pool,
            filter,
            control,
            region,
            active: Active::NONE,
            batch: Batch::default(),
            prospects: Box::new([Prospect::NONE; BATCH]),
            statistics_due_ms: 0,
        }
    }

    /// One turn over all ports (Fig. 5). Returns how many frames were received.
    pub fn turn(&mut self, now_ms: u64) -> usize {
        self.follow_configuration();
        let mut received = 0;
        for port in 0..self.ports.len() {
            // Step 106: the next interface. Steps 102 and 104: poll it. Steps 108 to 112: each of its packets.
            self.receive(port);
            received += self.batch.len();
            self.pass_to_filter(port, now_ms);
        }
        for Attachment { port, .. } in &mut self.ports {
            port.flush(&mut self.pool);
        }
        self.keep_house(received, now_ms);
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
        let Attachment { port, interface, receives } = &mut self.ports[from];
        if !*receives {
            return;
        }
        port.receive(&mut self.pool, &mut self.batch);
        if self.batch.is_empty() {
            return;
        }
        let bytes: u64 = self.batch.frames().iter().map(|frame| u64::from(frame.length)).sum();
        self.region.head.received.add(self.batch.len() as u64);
        if let Some(counters) = self.region.interfaces.get(usize::from(interface.0)) {
            counters.received.add(self.batch.len() as u64);
            counters.bytes_received.add(bytes);
        }
    }

    /// Step 110, for a batch: each step of the filter over all frames, so that their cache misses overlap.
    fn pass_to_filter(&mut self, from: usize, now_ms: u64) {
        let Self { ports, way_out, host, pool, filter, region, batch, prospects, .. } = self;
        let (interface, is_tap) = (ports[from].interface, ports[from].port.is_tap());
        for frame in batch.frames() {
            prefetch::line(pool.bytes(frame).as_ptr()); // another core wrote it, or the device
        }
        for (frame, prospect) in batch.frames().iter().zip(prospects.iter_mut()) {
            *prospect = filter.look(pool.bytes(frame), interface, is_tap);
        }
        for prospect in &mut prospects[..batch.len()] {
            filter.approach(prospect);
        }
        for (frame, prospect) in batch.drain().zip(prospects.iter()) {
            match filter.decide(pool.room_mut(&frame), prospect, interface, now_ms) {
                Verdict::Forward(to, length) => match way_out.get(usize::from(to.0)).copied().flatten() {
                    Some(port) => send(&mut ports[port], pool, region, frame, length),
                    None => discard(pool, region, frame, DropReason::NoPort),
                },
                Verdict::ToHost(length) => match *host {
                    Some(port) => send(&mut ports[port], pool, region, frame, length),
                    None => discard(pool, region, frame, DropReason::NoPort),
                },
                Verdict::Reply(length) => send(&mut ports[from], pool, region, frame, length),
                Verdict::Drop(reason) => discard(pool, region, frame, reason),
                Verdict::NotOurs if is_tap => {
                    region.head.passed.add(1);
                    pool.give(frame);
                }
                Verdict::NotOurs => discard(pool, region, frame, DropReason::NotOurs),
            }
        }
    }

    /// A bounded slice of what isn't a packet's business: expiry, heartbeat, what the kernel lost.
    fn keep_house(&mut self, received: usize, now_ms: u64) {
        let head = self.region.head;
        head.turns.add(1);
        head.idle_turns.add(u64::from(received == 0));
        head.heartbeat_ms.set(now_ms);
        self.filter.sweep(if received == 0 { SWEEP_IDLE } else { SWEEP_BUSY }, now_ms);
        if now_ms >= self.statistics_due_ms {
            self.statistics_due_ms = now_ms + STATISTICS_MS;
            self.count_losses();
        }
    }

    /// Several ports of one interface add up, so each interface's counters are set once, from all of them.
    fn count_losses(&mut self) {
        for (id, counters) in self.region.interfaces.iter().enumerate() {
            let (mut missed, mut errors) = (0, 0);
            for attachment in self.ports.iter_mut().filter(|port| usize::from(port.interface.0) == id) {
                let lost = attachment.port.statistics();
                missed += lost.ring_full + lost.no_frame + lost.invalid;
                errors += lost.send_errors;
            }
            counters.missed.set(missed);
            counters.errors.set(errors);
        }
    }
}

/// Step 224: into the transmit queue of its port, or, with that full, dropped.
fn send(to: &mut Attachment, pool: &mut Pool, region: &SwitcherRegion, mut frame: Frame, length: usize) {
    frame.length = length as u32;
    match to.port.send(pool, frame) {
        Ok(()) => {
            region.head.sent.add(1);
            if let Some(counters) = region.interfaces.get(usize::from(to.interface.0)) {
                counters.sent.add(1);
                counters.bytes_sent.add(length as u64);
            }
        }
        Err(frame) if to.interface == InterfaceId::HOST => discard(pool, region, frame, DropReason::StoreFull),
        Err(frame) => discard(pool, region, frame, DropReason::TransmitFull),
    }
}

fn discard(pool: &mut Pool, region: &SwitcherRegion, frame: Frame, reason: DropReason) {
    region.head.drops[reason as usize].add(1);
    pool.give(frame);
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
