//! The configuration table's generations A and B (patent Fig. 4, configuration table 64 and routing table 62).
//!
//! Control fills the idle one and flips (`flip.rs`); switchers and the `shunt` command read the active one. One
//! generation is whole in itself: services, their slots, the backends, the routes, and the hash by which a packet's
//! address, port and protocol lead to a service or a backend.

mod name;
mod rights;

pub use name::Name;

use crate::access::{Access, Reader};
use crate::address::{Address, BackendId, InterfaceId, NeighbourId, PortBe, ServiceId};
use crate::endpoints::EndpointRecord;
use crate::layout::described;
use crate::record::{Counter, Record};
use crate::sync::Ordering;
use crate::word::Word16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How a service's packets reach its backend: only the Ethernet address is re-written.
pub const MODE_DSR: u8 = 1;
/// How a service's packets reach its backend: address and port are re-written, both ways.
pub const MODE_NAT: u8 = 2;

/// Who serves a service: the box's own programs, through the pseudo-interface. 0 says its backends.
pub const TARGET_HOST: u8 = 1;

/// How a service's backend is chosen for a new connection: the cell of its hash (weights stand in the cells).
pub const ALGORITHM_SLOTS: u8 = 0;
/// How a backend is chosen: the cell of the client's address alone.
pub const ALGORITHM_SOURCE_HASH: u8 = 1;
/// How a backend is chosen: the lighter of two.
pub const ALGORITHM_LIGHTEST: u8 = 2;
/// How a backend is chosen: the least connections in flight for its weight.
pub const ALGORITHM_LEAST_CONNECTIONS: u8 = 3;
/// How a backend is chosen: the shortest expected wait.
pub const ALGORITHM_LATENCY: u8 = 4;
/// How a backend is chosen: as [`ALGORITHM_SLOTS`]; control moves the weights that stand in the cells.
pub const ALGORITHM_EVEN: u8 = 5;

/// What becomes of connections whose backend is down, or drained for longer than the service allows: they are left. A TCP
/// client that still waits for the answer to its SYN gets another backend all the same.
pub const ON_BACKEND_DOWN_KEEP: u8 = 0;
/// UDP flows go to another backend with their next packet.
pub const ON_BACKEND_DOWN_MOVE: u8 = 1;
/// TCP connections are reset at both ends.
pub const ON_BACKEND_DOWN_RESET: u8 = 2;

/// How long a connection may be silent, in milliseconds, by its state (RFC 5382, RFC 4787).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timeouts {
    /// A TCP connection whose handshake isn't complete.
    pub opening_ms: u32,
    /// An open TCP connection; for a UDP service, a flow.
    pub established_ms: u32,
    /// One side has finished.
    pub closing_ms: u32,
    /// Both sides have finished, or one has reset.
    pub closed_ms: u32,
}

described!(Timeouts { opening_ms, established_ms, closing_ms, closed_ms });

/// A service: address, port and protocol that clients use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ServiceRecord {
    /// The address that clients use.
    pub address: Address,
    /// The port that clients use.
    pub port: PortBe,
    /// [`crate::address::TCP`] or [`crate::address::UDP`]; 0 says that the record is empty.
    pub protocol: u8,
    /// [`MODE_DSR`] or [`MODE_NAT`].
    pub mode: u8,
    /// First cell of the service in `slots`.
    pub slots_first: u32,
    /// Number of cells; 0 if no backend may take a connection.
    pub slots_count: u32,
    /// First record of the service in `members`.
    pub members_first: u32,
    /// Number of members.
    pub members_count: u32,
    /// Idle times.
    pub timeouts: Timeouts,
    /// First record of the service in `classes`.
    pub classes_first: u32,
    /// Number of its classes; 0 if all clients are served alike.
    pub classes_count: u32,
    /// [`ALGORITHM_SLOTS`] and the like.
    pub algorithm: u8,
    /// [`TARGET_HOST`], or 0.
    pub target: u8,
    /// [`ON_BACKEND_DOWN_KEEP`] and the like.
    pub on_backend_down: u8,
    /// Room for a later field.
    pub reserved: u8,
}

described!(ServiceRecord {
    address,
    port,
    protocol,
    mode,
    slots_first,
    slots_count,
    members_first,
    members_count,
    timeouts,
    classes_first,
    classes_count,
    algorithm,
    target,
    on_backend_down,
    reserved,
});

/// Which backends serve a range of a service's clients: from `start` to the next record's start. A service's records are
/// sorted; whoever stands before the first has the service's own slots and members.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ClassRecord {
    /// First client address.
    pub start: Address,
    /// First cell in `slots`; several records may name the same cells.
    pub slots_first: u32,
    /// Number of cells; 0 refuses these clients.
    pub slots_count: u32,
    /// First record in `members`.
    pub members_first: u32,
    /// Number of members.
    pub members_count: u32,
}

described!(ClassRecord { start, slots_first, slots_count, members_first, members_count });

/// A backend of one service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemberRecord {
    /// Which backend.
    pub backend: u16,
    /// Weight by configuration.
    pub weight: u16,
    /// Weight in force before feedback: 0 while the backend takes no new connections.
    pub effective: u16,
    /// What feedback multiplies it by, in thousandths; 1000 without feedback.
    pub factor_permille: u16,
}

described!(MemberRecord { backend, weight, effective, factor_permille });

impl MemberRecord {
    /// The weight in force, in thousandths of a configured one.
    #[inline]
    pub fn weight_permille(&self) -> u32 {
        u32::from(self.effective) * u32::from(self.factor_permille)
    }
}

/// A backend: a server behind services.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BackendRecord {
    /// Its address.
    pub address: Address,
    /// Its port.
    pub port: PortBe,
    /// As the service's; 0 says that the record is empty.
    pub protocol: u8,
    /// [`BackendRecord::UP`], [`BackendRecord::DRAINED`], [`BackendRecord::REMOVED`], [`BackendRecord::STALE`].
    pub flags: u8,
    /// The interface that leads to it.
    pub interface: u16,
    /// Room for later fields.
    pub reserved: u16,
    /// Its next hop in the neighbour table ([`NeighbourId`]).
    pub neighbour: u32,
    /// Room for later fields.
    pub reserved2: u32,
}

described!(BackendRecord { address, port, protocol, flags, interface, reserved, neighbour, reserved2 });

impl BackendRecord {
    /// Its health checks pass.
    pub const UP: u8 = 1;
    /// The operator took it out (`shunt drain`): its connections finish, new ones go elsewhere.
    pub const DRAINED: u8 = 2;
    /// The configuration doesn't name it any more; kept until its last connection is gone.
    pub const REMOVED: u8 = 4;
    /// Some service has a [`StaleRecord`] of it. Packets to all other backends need no look at those.
    pub const STALE: u8 = 8;
}

/// A service's connections to a backend are stale: the service no longer sends new ones there, and
/// [`ServiceRecord::on_backend_down`] says what becomes of those that exist. Sorted by backend, then service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StaleRecord {
    /// Which backend.
    pub backend: u16,
    /// Which service.
    pub service: u16,
    /// From when on, in seconds of CLOCK_MONOTONIC: 0 for a backend that is down, else the end of its drain timeout.
    pub from_s: u32,
}

described!(StaleRecord { backend, service, from_s });

/// A range of addresses and the way to them: from `start` to the next range's start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RangeRecord {
    /// First address.
    pub start: Address,
    /// [`RangeRecord::NONE`], [`RangeRecord::ON_LINK`] or [`RangeRecord::GATEWAY`].
    pub kind: u8,
    /// Room for later fields.
    pub reserved: u8,
    /// The interface that leads there.
    pub interface: u16,
    /// The gateway in the neighbour table.
    pub neighbour: u32,
    /// Room for later fields.
    pub reserved2: u64,
}

described!(RangeRecord { start, kind, reserved, interface, neighbour, reserved2 });

impl RangeRecord {
    /// No route.
    pub const NONE: u8 = 0;
    /// The destination itself is the neighbour.
    pub const ON_LINK: u8 = 1;
    /// `neighbour` is the gateway.
    pub const GATEWAY: u8 = 2;
}

/// The way to an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// The destination is a neighbour on this interface.
    OnLink(InterfaceId),
    /// By a gateway.
    Gateway(InterfaceId, NeighbourId),
}

/// Numbers that stand before the tables of one generation; written by control while it is idle.
#[repr(C, align(64))]
#[derive(FromBytes)]
pub struct GenerationHead<A = Reader> {
    /// Records in `ranges`.
    pub ranges: Counter<A>,
    /// Wall-clock time of the publication, in milliseconds since 1970.
    pub published_ms: Counter<A>,
    /// CLOCK_MONOTONIC in milliseconds when it was filled, to be held against the reports' times.
    pub filled_ms: Counter<A>,
    /// Records in `stale_table`.
    pub stale: Counter<A>,
    _reserved: [Counter<A>; 4],
}

described!(GenerationHead<A> { ranges, published_ms, filled_ms, stale, _reserved });

/// A view of one generation.
#[derive(Clone, Copy)]
pub struct Generation<A: Access = Reader> {
    /// Numbers.
    pub head: &'static GenerationHead<A>,
    pub(crate) endpoints: &'static [Record<EndpointRecord, 4, A>],
    /// By [`ServiceId`].
    pub services: &'static [Record<ServiceRecord, 8, A>],
    /// By [`BackendId`].
    pub backends: &'static [Record<BackendRecord, 4, A>],
    /// Names by [`ServiceId`].
    pub service_names: &'static [Record<Name, 4, A>],
    /// Names by [`BackendId`].
    pub backend_names: &'static [Record<Name, 4, A>],
    /// Backends by service: [`MemberRecord`].
    pub members: &'static [Record<MemberRecord, 1, A>],
    /// Cells of all services' tables, each naming a backend.
    pub slots: &'static [Word16<A>],
    /// Sorted disjoint ranges of addresses: [`RangeRecord`].
    pub ranges: &'static [Record<RangeRecord, 4, A>],
    /// Sorted disjoint ranges of clients, by service: [`ClassRecord`].
    pub classes: &'static [Record<ClassRecord, 4, A>],
    /// Pairs of backend and service whose connections are stale, now or soon: [`StaleRecord`].
    pub stale_table: &'static [Record<StaleRecord, 1, A>],
}

impl<A: Access> Generation<A> {
    /// A service by its id.
    #[inline]
    pub fn service(&self, id: ServiceId) -> Option<ServiceRecord> {
        let record: ServiceRecord = self.services.get(usize::from(id.0))?.load();
        (record.protocol != 0).then_some(record)
    }

    /// A backend by its id.
    #[inline]
    pub fn backend(&self, id: BackendId) -> Option<BackendRecord> {
        let record: BackendRecord = self.backends.get(usize::from(id.0))?.load();
        (record.protocol != 0).then_some(record)
    }

    /// The backend in a service's cell; `hash` is spread evenly over the cells.
    #[inline]
    pub fn slot(&self, service: &ServiceRecord, hash: u32) -> Option<BackendId> {
        let cell = (u64::from(hash) * u64::from(service.slots_count)) >> 32;
        let slot = self.slots.get(service.slots_first as usize + cell as usize)?;
        (service.slots_count != 0).then(|| BackendId(slot.load(Ordering::Relaxed)))
    }

    /// A service as this client is served by it: with the slots and members of the client's class.
    #[inline]
    pub fn service_for(&self, service: ServiceRecord, client: &Address) -> ServiceRecord {
        let classes = self.classes_in(&service);
        let after = classes.partition_point(|class| class.load().start.number() <= client.number());
        let Some(class) = after.checked_sub(1).and_then(|index| classes.get(index)) else { return service };
        let ClassRecord { slots_first, slots_count, members_first, members_count, .. } = class.load();
        ServiceRecord { slots_first, slots_count, members_first, members_count, ..service }
    }

    #[inline]
    fn classes_in(&self, service: &ServiceRecord) -> &'static [Record<ClassRecord, 4, A>] {
        let (first, count) = (service.classes_first as usize, service.classes_count as usize);
        self.classes.get(first..first.saturating_add(count)).unwrap_or_default()
    }

    /// The ranges of clients that a service tells apart, each up to the next; none if it doesn't.
    pub fn classes_of(&self, service: &ServiceRecord) -> impl Iterator<Item = ClassRecord> + '_ {
        self.classes_in(service).iter().map(|record| record.load())
    }

    /// The records of a service's backends.
    #[inline]
    pub fn members_in(&self, service: &ServiceRecord) -> &'static [Record<MemberRecord, 1, A>] {
        let (first, count) = (service.members_first as usize, service.members_count as usize);
        self.members.get(first..first.saturating_add(count)).unwrap_or_default()
    }

    /// A service's backends with their weights.
    pub fn members_of(&self, service: &ServiceRecord) -> impl Iterator<Item = MemberRecord> + '_ {
        self.members_in(service).iter().map(|record| record.load())
    }

    /// The pairs whose connections are stale, now or soon.
    pub fn stale_pairs(&self) -> impl Iterator<Item = StaleRecord> + '_ {
        self.stale_records().iter().map(|record| record.load())
    }

    fn stale_records(&self) -> &'static [Record<StaleRecord, 1, A>] {
        &self.stale_table[..(self.head.stale.get() as usize).min(self.stale_table.len())]
    }

    /// Says since when a service's connections to a backend are stale; `None` if they aren't by now.
    pub fn stale(&self, service: ServiceId, backend: BackendId, now_ms: u64) -> Option<StaleRecord> {
        let records = self.stale_records();
        let pair = |record: StaleRecord| (record.backend, record.service);
        let wanted = (backend.0, service.0);
        let at = records.partition_point(|record| pair(record.load()) < wanted);
        let found: StaleRecord = records.get(at)?.load();
        (pair(found) == wanted && now_ms / 1000 >= u64::from(found.from_s)).then_some(found)
    }

    /// The way to an address: the last range that starts at it or before.
    pub fn route(&self, to: &Address) -> Option<Route> {
        let count = (self.head.ranges.get() as usize).min(self.ranges.len());
        let ranges = &self.ranges[..count];
        let after = ranges.partition_point(|range| range.load().start.number() <= to.number());
        let range: RangeRecord = ranges.get(after.checked_sub(1)?)?.load();
        let interface = InterfaceId(range.interface);
        match range.kind {
            RangeRecord::ON_LINK => Some(Route::OnLink(interface)),
            RangeRecord::GATEWAY => Some(Route::Gateway(interface, NeighbourId(range.neighbour))),
            _ => None,
        }
    }
}

const _: () = assert!(size_of::<ServiceRecord>() == 64 && size_of::<MemberRecord>() == 8);
const _: () = assert!(size_of::<BackendRecord>() == 32 && size_of::<StaleRecord>() == 8);
const _: () = assert!(size_of::<RangeRecord>() == 32 && size_of::<ClassRecord>() == 32 && size_of::<Name>() == 32);
