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
use crate::coded::coded;
use crate::endpoints::EndpointRecord;
use crate::layout::described;
use crate::record::{Counter, Record};
use crate::service::{BackendView, ServiceView};
use crate::sync::Ordering;
use crate::word::Word16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

coded! {
    "What a range of addresses is reached by." FibKind:
    /// Nothing: no route.
    Nowhere = 0, "nowhere";
    /// The destination itself is the neighbour.
    OnLink = 1, "on-link";
    /// The record's `neighbour` is the gateway.
    Gateway = 2, "gateway";
}

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

/// A service: address, port and protocol that clients use. Readers get a [`ServiceView`] of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ServiceRecord {
    /// The address that clients use.
    pub address: Address,
    /// The port that clients use.
    pub port: PortBe,
    /// [`crate::address::Protocol`]; 0 says that the record is empty.
    pub protocol: u8,
    /// [`crate::mode::Mode`].
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
    /// [`crate::service::Algorithm`].
    pub algorithm: u8,
    /// [`crate::service::Target`].
    pub target: u8,
    /// [`crate::service::OnBackendDown`].
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

/// A backend: a server behind services. Readers get a [`BackendView`] of it.
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
/// [`ServiceView::on_backend_down`] says what becomes of those that exist. Sorted by backend, then service.
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
pub struct FibRecord {
    /// First address.
    pub start: Address,
    /// [`FibKind`].
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

described!(FibRecord { start, kind, reserved, interface, neighbour, reserved2 });

/// The way to an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// The destination is a neighbour on this interface.
    OnLink(InterfaceId),
    /// By a gateway.
    Gateway(InterfaceId, NeighbourId),
    /// The record has a number that this build doesn't know.
    Unknown,
}

impl FibRecord {
    /// The way that it says; `None` for no route.
    #[inline]
    fn route(&self) -> Option<Route> {
        let interface = InterfaceId(self.interface);
        match FibKind::of(self.kind) {
            Some(FibKind::Nowhere) => None,
            Some(FibKind::OnLink) => Some(Route::OnLink(interface)),
            Some(FibKind::Gateway) => Some(Route::Gateway(interface, NeighbourId(self.neighbour))),
            None => Some(Route::Unknown),
        }
    }
}

/// Numbers that stand before the tables of one generation; written by control while it is idle.
#[repr(C, align(64))]
#[derive(FromBytes)]
pub struct GenerationHead<A = Reader> {
    /// Records in `fib`.
    pub fib: Counter<A>,
    /// Wall-clock time of the publication, in milliseconds since 1970.
    pub published_ms: Counter<A>,
    /// CLOCK_MONOTONIC in milliseconds when it was filled, to be held against the reports' times.
    pub filled_ms: Counter<A>,
    /// Records in `stale_table`.
    pub stale: Counter<A>,
    _reserved: [Counter<A>; 4],
}

described!(GenerationHead<A> { fib, published_ms, filled_ms, stale, _reserved });

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
    /// Sorted disjoint ranges of addresses: [`FibRecord`].
    pub fib: &'static [Record<FibRecord, 4, A>],
    /// Sorted disjoint ranges of clients, by service: [`ClassRecord`].
    pub classes: &'static [Record<ClassRecord, 4, A>],
    /// Pairs of backend and service whose connections are stale, now or soon: [`StaleRecord`].
    pub stale_table: &'static [Record<StaleRecord, 1, A>],
}

impl<A: Access> Generation<A> {
    /// A service by its id; `None` if there is none, or if its record has a number that this build doesn't know.
    #[inline]
    pub fn service(&self, id: ServiceId) -> Option<ServiceView> {
        self.services.get(usize::from(id.0))?.load().view()
    }

    /// A backend by its id; `None` if there is none, or if its record has a number that this build doesn't know.
    #[inline]
    pub fn backend(&self, id: BackendId) -> Option<BackendView> {
        self.backends.get(usize::from(id.0))?.load().view()
    }

    /// The backend in a service's cell; `hash` is spread evenly over the cells.
    #[inline]
    pub fn slot(&self, service: &ServiceView, hash: u32) -> Option<BackendId> {
        let cell = (u64::from(hash) * u64::from(service.slots_count)) >> 32;
        let slot = self.slots.get(service.slots_first as usize + cell as usize)?;
        (service.slots_count != 0).then(|| BackendId(slot.load(Ordering::Relaxed)))
    }

    /// A service as this client is served by it: with the slots and members of the client's class.
    #[inline]
    pub fn service_for(&self, service: ServiceView, client: &Address) -> ServiceView {
        let classes = self.classes_in(&service);
        let after = classes.partition_point(|class| class.load().start.number() <= client.number());
        let Some(class) = after.checked_sub(1).and_then(|index| classes.get(index)) else { return service };
        let ClassRecord { slots_first, slots_count, members_first, members_count, .. } = class.load();
        ServiceView { slots_first, slots_count, members_first, members_count, ..service }
    }

    #[inline]
    fn classes_in(&self, service: &ServiceView) -> &'static [Record<ClassRecord, 4, A>] {
        let (first, count) = (service.classes_first as usize, service.classes_count as usize);
        self.classes.get(first..first.saturating_add(count)).unwrap_or_default()
    }

    /// The ranges of clients that a service tells apart, each up to the next; none if it doesn't.
    pub fn classes_of(&self, service: &ServiceView) -> impl Iterator<Item = ClassRecord> + '_ {
        self.classes_in(service).iter().map(|record| record.load())
    }

    /// The records of a service's backends.
    #[inline]
    pub fn members_in(&self, service: &ServiceView) -> &'static [Record<MemberRecord, 1, A>] {
        let (first, count) = (service.members_first as usize, service.members_count as usize);
        self.members.get(first..first.saturating_add(count)).unwrap_or_default()
    }

    /// A service's backends with their weights.
    pub fn members_of(&self, service: &ServiceView) -> impl Iterator<Item = MemberRecord> + '_ {
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

    /// The way to an address: the last range that starts at it or before. `None` if there is no route.
    pub fn route(&self, to: &Address) -> Option<Route> {
        let ranges = self.fib_records();
        let after = ranges.partition_point(|range| range.load().start.number() <= to.number());
        ranges.get(after.checked_sub(1)?)?.load().route()
    }

    fn fib_records(&self) -> &'static [Record<FibRecord, 4, A>] {
        &self.fib[..(self.head.fib.get() as usize).min(self.fib.len())]
    }

    /// The ways that the ranges name, as often as they do.
    pub fn routes(&self) -> impl Iterator<Item = Route> + '_ {
        self.fib_records().iter().filter_map(|range| range.load().route())
    }
}

const _: () = assert!(size_of::<ServiceRecord>() == 64 && size_of::<MemberRecord>() == 8);
const _: () = assert!(size_of::<BackendRecord>() == 32 && size_of::<StaleRecord>() == 8);
const _: () = assert!(size_of::<FibRecord>() == 32 && size_of::<ClassRecord>() == 32 && size_of::<Name>() == 32);
