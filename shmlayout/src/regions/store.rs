//! The packet store of one switcher, and the region that the interface daemon writes (patent Fig. 8).
//!
//! A store has two writers, the switcher and the daemon. Each has its own cache line of counters and one end of each ring.
//! `shunt` reads both regions.

use super::{Typed, Whole, mapping};
use crate::access::{Access, Lends, Reader, Writer};
use crate::counted::counted;
use crate::header::Kind;
use crate::layout::described;
use crate::map::{Mapping, Parts, lend_one};
use crate::record::Counter;
use crate::store::{Doorbell, PacketRing};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Capacity of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct StoreShape {
    /// Packets in each of the two rings; a power of two.
    pub cells: u64,
    /// Reserved.
    pub reserved: [u64; 7],
}

described!(StoreShape { cells, reserved });

impl StoreShape {
    /// Derived from the configuration's limit.
    pub fn new(cells: u32) -> Self {
        Self { cells: cells.into(), reserved: [0; 7] }
    }
}

/// The switcher's counters.
#[repr(C, align(64))]
#[derive(FromBytes)]
pub struct StoreSwitcher<A = Reader> {
    /// Packets stored for the host.
    pub packets_in: Counter<A>,
    /// Their bytes.
    pub bytes_in: Counter<A>,
    /// Packets for the host dropped because the ring was full or they were larger than a cell.
    pub dropped: Counter<A>,
    /// Wake-ups sent to the daemon.
    pub wakes: Counter<A>,
    /// Packets of the host taken from the ring.
    pub packets_out: Counter<A>,
    /// Their bytes.
    pub bytes_out: Counter<A>,
    _end: [Counter<A>; 2],
}

described!(StoreSwitcher<A> { packets_in, bytes_in, dropped, wakes, packets_out, bytes_out, _end });

/// The daemon's doorbell and counters.
#[repr(C, align(64))]
#[derive(FromBytes)]
pub struct StoreDaemon<A = Reader> {
    /// Whether it sleeps, and how often it has slept.
    pub doorbell: Doorbell<A>,
    /// Packets of the host stored for the switcher.
    pub packets_out: Counter<A>,
    /// Packets of the host dropped because the ring was full.
    pub dropped: Counter<A>,
    _end: [Counter<A>; 5],
}

described!(StoreDaemon<A> { doorbell, packets_out, dropped, _end });

/// A view of a store, with the accesses of the switcher and the daemon: the switcher uses `StoreRegion<Writer, Reader>`, the
/// daemon `StoreRegion<Reader, Writer>`.
#[derive(Clone, Copy)]
pub struct StoreRegion<S: Access = Reader, D: Access = Reader> {
    /// The switcher's counters.
    pub switcher: &'static StoreSwitcher<S>,
    /// The daemon's doorbell and counters.
    pub daemon: &'static StoreDaemon<D>,
    /// From the switcher to the host.
    pub to_host: PacketRing<'static, S, D>,
    /// From the host to the switcher.
    pub from_host: PacketRing<'static, D, S>,
}

impl<S: Access, D: Access> StoreRegion<S, D> {
    /// The same store with equal or fewer rights.
    pub fn lend<T: Access, E: Access>(&self) -> StoreRegion<T, E>
    where
        S: Lends<T>,
        D: Lends<E>,
    {
        StoreRegion {
            switcher: lend_one(self.switcher),
            daemon: lend_one(self.daemon),
            to_host: self.to_host.lend(),
            from_host: self.from_host.lend(),
        }
    }
}

impl Whole for StoreRegion<Writer, Writer> {}

impl<S: Access, D: Access> Typed for StoreRegion<S, D> {
    const KIND: Kind = Kind::Store;
    const MAPPING: Mapping = mapping(S::WRITES || D::WRITES);
    type Shape = StoreShape;

    fn carve(parts: &mut Parts, shape: &StoreShape) -> Option<Self> {
        let (switcher, daemon) = (parts.one(), parts.one());
        let (to_host, from_host) = (parts.one(), parts.one());
        let (to_host_cells, from_host_cells) = (parts.take(shape.cells as usize), parts.take(shape.cells as usize));
        Some(Self {
            switcher: switcher?,
            daemon: daemon?,
            to_host: PacketRing::new(to_host?, to_host_cells)?,
            from_host: PacketRing::new(from_host?, from_host_cells)?,
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

/// Capacities of the daemon's region: none yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct IfdaemonShape {
    /// Reserved.
    pub reserved: [u64; 8],
}

described!(IfdaemonShape { reserved });

/// The daemon's process identity and counters.
#[repr(C, align(64))]
#[derive(FromBytes)]
pub struct IfdaemonHead<A = Reader> {
    /// Process id.
    pub pid: Counter<A>,
    /// Start time of that process.
    pub start_time: Counter<A>,
    /// Time of the last turn, in milliseconds of CLOCK_MONOTONIC.
    pub heartbeat_ms: Counter<A>,
    /// Number of processes that have used this region.
    pub generation: Counter<A>,
    /// System calls that read data from the device.
    pub reads: Counter<A>,
    /// Packets read by them, after segmentation.
    pub packets_out: Counter<A>,
    /// Their bytes.
    pub bytes_out: Counter<A>,
    /// System calls that wrote to the device.
    pub writes: Counter<A>,
    /// Packets written by them, before coalescing.
    pub packets_in: Counter<A>,
    /// Their bytes.
    pub bytes_in: Counter<A>,
    /// Packets dropped, by [`DaemonDrop`].
    pub drops: [Counter<A>; DaemonDrop::ALL.len()],
}

described!(IfdaemonHead<A> {
    pid, start_time, heartbeat_ms, generation, reads, packets_out, bytes_out, writes, packets_in, bytes_in, drops,
});

/// A view of the daemon's region.
#[derive(Clone, Copy)]
pub struct IfdaemonRegion<A: Access = Reader> {
    /// Process identity and counters.
    pub head: &'static IfdaemonHead<A>,
}

impl Whole for IfdaemonRegion<Writer> {}

impl<A: Access> Typed for IfdaemonRegion<A> {
    const KIND: Kind = Kind::Ifdaemon;
    const MAPPING: Mapping = mapping(A::WRITES);
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
