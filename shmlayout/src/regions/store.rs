//! The packet store of one switcher, and the region that the interface daemon writes (patent Fig. 8).
//!
//! A store has two writers, the switcher and the daemon, each with a line of counters of its own and one end of each
//! ring. `shunt` reads both regions.

use super::Typed;
use crate::counted::counted;
use crate::header::{Kind, layout_hash};
use crate::map::Parts;
use crate::record::Counter;
use crate::store::{Naps, PacketCell, PacketRing, StoreEnds};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How much a store has room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct StoreShape {
    /// Packets in each of the two rings; a power of two.
    pub cells: u64,
    /// Room for later numbers.
    pub reserved: [u64; 7],
}

impl StoreShape {
    /// From the configuration's limit.
    pub fn new(cells: u32) -> Self {
        Self { cells: cells.into(), reserved: [0; 7] }
    }
}

/// The switcher's numbers.
#[repr(C, align(64))]
#[derive(FromBytes, KnownLayout)]
pub struct StoreSwitcher {
    /// Packets stored for the host.
    pub packets_in: Counter,
    /// Their bytes.
    pub bytes_in: Counter,
    /// Packets for the host that found the ring full, or were larger than a cell.
    pub dropped: Counter,
    /// Wake-ups sent to the daemon.
    pub wakes: Counter,
    /// Packets taken, of those that the host sends.
    pub packets_out: Counter,
    /// Their bytes.
    pub bytes_out: Counter,
    _end: [Counter; 2],
}

/// The daemon's numbers.
#[repr(C, align(64))]
#[derive(FromBytes, KnownLayout)]
pub struct StoreDaemon {
    /// Whether it sleeps, and how often it has.
    pub naps: Naps,
    /// Packets of the host stored for the switcher.
    pub packets_out: Counter,
    /// Packets of the host that found the ring full.
    pub dropped: Counter,
    _end: [Counter; 5],
}

/// A view of a store.
#[derive(Clone, Copy)]
pub struct StoreRegion {
    /// What the switcher counts.
    pub switcher: &'static StoreSwitcher,
    /// What the daemon counts, and whether it sleeps.
    pub daemon: &'static StoreDaemon,
    /// From the switcher to the host.
    pub inward: PacketRing<'static>,
    /// From the host to the switcher.
    pub outward: PacketRing<'static>,
}

impl Typed for StoreRegion {
    const KIND: Kind = Kind::Store;
    const HASH: u64 = layout_hash(&[
        size_of::<StoreSwitcher>(),
        size_of::<StoreDaemon>(),
        size_of::<StoreEnds>(),
        size_of::<PacketCell>(),
    ]);
    type Shape = StoreShape;

    fn carve(parts: &mut Parts, shape: &StoreShape) -> Option<Self> {
        let (switcher, daemon) = (parts.one(), parts.one());
        let (inward, outward) = (parts.one(), parts.one());
        let (inward_cells, outward_cells) = (parts.take(shape.cells as usize), parts.take(shape.cells as usize));
        Some(Self {
            switcher: switcher?,
            daemon: daemon?,
            inward: PacketRing::new(inward?, inward_cells)?,
            outward: PacketRing::new(outward?, outward_cells)?,
        })
    }

    fn fault(shape: &StoreShape) -> Option<&'static str> {
        (!shape.cells.is_power_of_two() || shape.cells > 1 << 16).then_some("cells")
    }
}

counted! {
    "Why the daemon dropped a packet." DaemonDrop:
    /// From the host, with a source that is none of its addresses on the device.
    ForeignSource = "host_foreign_source",
    /// From the host, IPv6, which is off.
    Ipv6 = "host_ipv6",
    /// From the host, larger than the device's MTU.
    Oversized = "host_oversized",
    /// From the host, no IP packet, or one whose lengths contradict each other.
    Malformed = "host_malformed",
    /// From the host, and the packet store to the switcher is full.
    RingFull = "host_ring_full",
    /// To the host, and the device refused it.
    DeviceRefused = "host_device_refused",
}

/// How much the daemon's region has room for: nothing varies yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct IfdaemonShape {
    /// Room for later numbers.
    pub reserved: [u64; 8],
}

/// What the daemon says of itself.
#[repr(C, align(64))]
#[derive(FromBytes, KnownLayout)]
pub struct IfdaemonHead {
    /// Process id.
    pub pid: Counter,
    /// When that process started.
    pub start_time: Counter,
    /// CLOCK_MONOTONIC in milliseconds, at the last turn.
    pub heartbeat_ms: Counter,
    /// Processes that have had this region.
    pub generation: Counter,
    /// System calls that read the device and brought something.
    pub reads: Counter,
    /// Packets that came of them, after segmentation.
    pub packets_out: Counter,
    /// Their bytes.
    pub bytes_out: Counter,
    /// System calls that wrote the device.
    pub writes: Counter,
    /// Packets that went with them, before they were coalesced.
    pub packets_in: Counter,
    /// Their bytes.
    pub bytes_in: Counter,
    /// Packets dropped, by [`DaemonDrop`].
    pub drops: [Counter; DaemonDrop::ALL.len()],
}

/// A view of the daemon's region.
#[derive(Clone, Copy)]
pub struct IfdaemonRegion {
    /// Its numbers.
    pub head: &'static IfdaemonHead,
}

impl Typed for IfdaemonRegion {
    const KIND: Kind = Kind::Ifdaemon;
    const HASH: u64 = layout_hash(&[size_of::<IfdaemonHead>(), DaemonDrop::ALL.len()]);
    type Shape = IfdaemonShape;

    fn carve(parts: &mut Parts, _: &IfdaemonShape) -> Option<Self> {
        parts.one().map(|head| Self { head })
    }

    fn fault(_: &IfdaemonShape) -> Option<&'static str> {
        None
    }
}

const _: () = assert!(size_of::<IfdaemonHead>() == 128);
const _: () = assert!(size_of::<StoreSwitcher>() == 64 && size_of::<StoreDaemon>() == 64);
