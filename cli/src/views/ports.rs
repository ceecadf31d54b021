//! The ports of `shunt status`: which switcher polls which interface queues, and how.

use super::UNKNOWN;
use crate::memory::Memory;
use serde::Serialize;
use shunt_shmlayout::regions::{PORT_BUSY_POLLS, PORT_RECEIVES, PORT_THREADED, PortKind, PortMode, PortRecord};
use std::collections::BTreeMap;

/// One queue of an interface.
#[derive(Debug, Serialize)]
pub struct QueueRow {
    /// Its number.
    pub queue: u16,
    /// False where the switcher only sends by it.
    pub receives: bool,
    /// `af_xdp` or `af_packet`.
    pub kind: &'static str,
    /// `zero-copy`, `native-copy`, `generic-copy`, `mmap` or `transmit-only`.
    pub mode: &'static str,
    /// Whether the switcher fetches packets from the device itself.
    pub busy_polls: bool,
    /// Whether a thread of the kernel's on the switcher's CPU receives them.
    pub threaded: bool,
}

/// What one switcher has of one interface.
#[derive(Debug, Serialize)]
pub struct PortRow {
    /// The interface.
    pub interface: String,
    /// The switcher.
    pub switcher: u16,
    /// The queues it has there.
    pub queues: Vec<QueueRow>,
    /// Frames received.
    pub received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Frames sent.
    pub sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Frames that the kernel dropped because the receive ring was full or empty of buffers.
    pub missed: u64,
    /// Failed attempts to make the kernel send.
    pub errors: u64,
}

impl PortRow {
    /// `0,1`; a queue that is only sent by has a `t`.
    pub fn queue_list(&self) -> String {
        let one = |row: &QueueRow| format!("{}{}", row.queue, if row.receives { "" } else { "t" });
        self.queues.iter().map(one).collect::<Vec<_>>().join(",")
    }

    /// Kind, and mode with how packets are fetched, once each.
    pub fn how(&self) -> (String, String) {
        let joined = |word: fn(&QueueRow) -> &'static str| {
            let mut words: Vec<&str> = self.queues.iter().map(word).collect();
            words.dedup();
            words.join("/")
        };
        let fetched = match &self.queues {
            queues if queues.iter().any(|row| row.busy_polls) => " busy-poll",
            queues if queues.iter().any(|row| row.threaded) => " thread",
            _ => "",
        };
        (joined(|row| row.kind), format!("{}{fetched}", joined(|row| row.mode)))
    }
}

/// By interface and switcher: switchers count what they receive and send by interface, not by queue.
pub fn ports(memory: &Memory) -> Vec<PortRow> {
    let mut grouped: BTreeMap<(u16, u16), Vec<PortRecord>> = BTreeMap::new();
    for port in memory.keeper.ports() {
        grouped.entry((port.interface, port.switcher)).or_default().push(port);
    }
    grouped.into_iter().map(|((interface, switcher), ports)| row(memory, interface, switcher, &ports)).collect()
}

fn row(memory: &Memory, interface: u16, switcher: u16, ports: &[PortRecord]) -> PortRow {
    let queue = |port: &PortRecord| QueueRow {
        queue: port.queue,
        receives: port.flags & PORT_RECEIVES != 0,
        kind: port.kind().map_or(UNKNOWN, PortKind::name),
        mode: port.mode().map_or(UNKNOWN, PortMode::name),
        busy_polls: port.flags & PORT_BUSY_POLLS != 0,
        threaded: port.flags & PORT_THREADED != 0,
    };
    let region = memory.switchers.get(usize::from(switcher));
    let counters = region.and_then(|region| region.interfaces.get(usize::from(interface)));
    let count = |counter: fn(&shunt_shmlayout::regions::InterfaceCounters) -> &shunt_shmlayout::record::Counter| {
        counters.map_or(0, |counters| counter(counters).get())
    };
    PortRow {
        interface: memory.interface_name(interface).unwrap_or_else(|| format!("#{interface}")),
        switcher,
        queues: ports.iter().map(queue).collect(),
        received: count(|c| &c.received),
        bytes_received: count(|c| &c.bytes_received),
        sent: count(|c| &c.sent),
        bytes_sent: count(|c| &c.bytes_sent),
        missed: count(|c| &c.missed),
        errors: count(|c| &c.errors),
    }
}
