//! The pseudo-interface of `shunt status`: the device, and the packet stores between it and the switchers.

use crate::format::bytes;
use crate::memory::{HostMemory, Memory};
use crate::table::Table;
use serde::Serialize;
use shunt_shmlayout::regions::{DaemonDrop, StoreRegion};
use shunt_shmlayout::store::PacketRing;

/// One of a store's two rings.
#[derive(Debug, Serialize)]
pub struct RingRow {
    /// Current number of packets.
    pub depth: u64,
    /// Capacity in packets.
    pub capacity: u64,
    /// Packets written.
    pub packets: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Packets dropped because it was full.
    pub dropped: u64,
}

/// The packet store of one switcher.
#[derive(Debug, Serialize)]
pub struct StoreRow {
    /// The switcher.
    pub switcher: usize,
    /// From the switcher to the host.
    pub to_host: RingRow,
    /// From the host to the switcher.
    pub from_host: RingRow,
    /// Wake-ups that the switcher sent to the interface daemon.
    pub wakes: u64,
    /// Times that the interface daemon slept.
    pub sleeps: u64,
}

/// Packets that the interface daemon dropped for one reason.
#[derive(Debug, Serialize)]
pub struct DaemonDropRow {
    /// The reason's name.
    pub reason: &'static str,
    /// Its count.
    pub count: u64,
}

/// The pseudo-interface.
#[derive(Debug, Serialize)]
pub struct HostRow {
    /// The device.
    pub device: String,
    /// Whether the kernel hands over and takes packets larger than the device's MTU.
    pub offloads: bool,
    /// System calls that read the device.
    pub reads: u64,
    /// System calls that wrote it.
    pub writes: u64,
    /// The packet stores, by switcher.
    pub stores: Vec<StoreRow>,
    /// What the interface daemon dropped, by reason.
    pub drops: Vec<DaemonDropRow>,
}

impl HostRow {
    /// Reads them; `None` if no pseudo-interface is configured.
    pub fn read(memory: &Memory) -> Option<Self> {
        let host = memory.host.as_ref()?;
        let (keeper, daemon) = (memory.keeper.head, host.daemon.head);
        Some(Self {
            device: keeper.device_name(),
            offloads: keeper.device_offloads.get() != 0,
            reads: daemon.reads.get(),
            writes: daemon.writes.get(),
            stores: host.stores.iter().enumerate().map(|(switcher, store)| row(switcher, store)).collect(),
            drops: daemon_drops(host).map(|(reason, count)| DaemonDropRow { reason: reason.name(), count }).collect(),
        })
    }

    /// The text in `shunt status`.
    pub fn text(&self) -> String {
        let mut table = Table::new([
            "STORE",
            "DIRECTION",
            ">SWITCHER",
            ">DEPTH",
            ">PACKETS",
            ">BYTES",
            ">DROPPED",
            ">WAKE-UPS",
            ">SLEEPS",
        ]);
        for store in &self.stores {
            let cells = |direction: &str, ring: &RingRow| {
                let names = [self.device.clone(), direction.to_owned(), store.switcher.to_string()];
                let depth = format!("{}/{}", ring.depth, ring.capacity);
                let numbers = [depth, ring.packets.to_string(), bytes(ring.bytes), ring.dropped.to_string()];
                names.into_iter().chain(numbers)
            };
            let sleep = [store.wakes, store.sleeps].map(|n| n.to_string());
            table.row(cells("to host", &store.to_host).chain(sleep));
            table.row(cells("from host", &store.from_host));
        }
        let offloads = if self.offloads { "with" } else { "without" };
        let counts = [("reads", self.reads), ("writes", self.writes)].map(|(name, n)| format!("{name} {n}"));
        let drops =
            self.drops.iter().filter(|drop| drop.count != 0).map(|drop| format!("{} {}", drop.reason, drop.count));
        let counts: Vec<String> = counts.into_iter().chain(drops).collect();
        format!("{table}device {} {offloads} offloads: {}\n", self.device, counts.join(", "))
    }
}

/// Packets that the interface daemon dropped, by reason, including reasons with count 0.
pub fn daemon_drops(host: &HostMemory) -> impl Iterator<Item = (DaemonDrop, u64)> {
    let drops = &host.daemon.head.drops;
    DaemonDrop::ALL.iter().map(|reason| (*reason, drops[*reason as usize].get()))
}

fn row(switcher: usize, store: &StoreRegion) -> StoreRow {
    let (counters, daemon) = (store.switcher, store.daemon);
    let ring = |ring: PacketRing<'_>, packets, bytes, dropped| RingRow {
        depth: ring.depth(),
        capacity: ring.capacity(),
        packets,
        bytes,
        dropped,
    };
    let (packets_in, bytes_in) = (counters.packets_in.get(), counters.bytes_in.get());
    StoreRow {
        switcher,
        to_host: ring(store.to_host, packets_in, bytes_in, counters.dropped.get()),
        from_host: ring(store.from_host, counters.packets_out.get(), counters.bytes_out.get(), daemon.dropped.get()),
        wakes: counters.wakes.get(),
        sleeps: daemon.doorbell.count(),
    }
}
