//! The configuration table's generations A and B (patent Fig. 4, configuration table 64 and routing table 62).
//!
//! Control fills the idle generation and flips (`flip.rs`); switchers and the `shunt` command read the active one. A
//! generation is self-contained: services and their slots, backends, the forwarding table, and the hash that maps a
//! packet's address, port and protocol to a service or a backend.

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
    "How an interval of addresses is reached." FibKind:
    /// No route.
    Nowhere = 0, "nowhere";
    /// The destination itself is the neighbour.
    OnLink = 1, "on-link";
    /// The record's `neighbour` is the gateway.
    Gateway = 2, "gateway";
}

/// Idle timeouts of a connection by state, in milliseconds (RFC 5382, RFC 4787).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timeouts {
    /// A TCP connection whose handshake is incomplete.
    pub opening_ms: u32,
    /// An open TCP connection; for a UDP service, a flow.
    pub established_ms: u32,
    /// One side has finished.
    pub closing_ms: u32,
    /// Both sides have finished, or one has reset.
    pub closed_ms: u32,
}

described!(Timeouts { opening_ms, established_ms, closing_ms, closed_ms });

/// A service: address, port and protocol that clients use. Readers decode it into a [`ServiceView`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ServiceRecord {
    /// The address that clients use.
    pub address: Address,
    /// The port that clients use.
    pub port: PortBe,
    /// [`crate::address::Protocol`]; 0 in an empty record.
    pub protocol: u8,
    /// [`crate::mode::Mode`].
    pub mode: u8,
    /// First cell of the service in `slots`.
    pub slots_first: u32,
    /// Number of cells; 0 if no backend accepts connections.
    pub slots_count: u32,
    /// First record of the service in `members`.
    pub members_first: u32,
    /// Number of members.
    pub members_count: u32,
    /// Idle timeouts.
    pub timeouts: Timeouts,
    /// First record of the service in `classes`.
    pub classes_first: u32,
    /// Number of its classes; 0 if all clients get the same backends.
    pub classes_count: u32,
    /// [`crate::service::Algorithm`].
    pub algorithm: u8,
    /// [`crate::service::Target`].
    pub target: u8,
    /// [`crate::service::OnBackendDown`].
    pub on_backend_down: u8,
    /// Reserved.
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

/// The backends for an interval of a service's clients, from `start` to the next record's start. A service's records are
/// sorted; clients below the first get the service's own slots and members.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ClassRecord {
    /// First client address.
    pub start: Address,
    /// First cell in `slots`; several records may share cells.
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
    /// Backend id.
    pub backend: u16,
    /// Configured weight.
    pub weight: u16,
    /// Weight before feedback: the configured one, or 0 while the backend accepts no new connections.
    pub effective: u16,
    /// Feedback factor on `effective`, in thousandths; 1000 without feedback.
    pub factor_permille: u16,
}

described!(MemberRecord { backend, weight, effective, factor_permille });

impl MemberRecord {
    /// The effective weight with feedback, in thousandths of a configured unit.
    #[inline]
    pub fn weight_permille(&self) -> u32 {
        u32::from(self.effective) * u32::from(self.factor_permille)
    }
}

/// A backend: a server behind services. Readers decode it into a [`BackendView`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BackendRecord {
    /// IP address.
    pub address: Address,
    /// Transport port.
    pub port: PortBe,
    /// [`crate::address::Protocol`]; 0 in an empty record.
    pub protocol: u8,
    /// [`BackendRecord::UP`], [`BackendRecord::DRAINED`], [`BackendRecord::REMOVED`], [`BackendRecord::STALE`].
    pub flags: u8,
    /// The interface that leads to it.
    pub interface: u16,
    /// Reserved.
    pub reserved: u16,
    /// Its next hop in the neighbour table ([`NeighbourId`]).
    pub neighbour: u32,
    /// Reserved.
    pub reserved2: u32,
}

described!(BackendRecord { address, port, protocol, flags, interface, reserved, neighbour, reserved2 });

impl BackendRecord {
    /// Its health checks pass.
    pub const UP: u8 = 1;
    /// The operator drained it (`shunt drain`): existing connections finish, new ones go elsewhere.
    pub const DRAINED: u8 = 2;
    /// Removed from the configuration; retained until its last connection ends.
    pub const REMOVED: u8 = 4;
    /// At least one [`StaleRecord`] names it. Packets to other backends skip the search for one.
    pub const STALE: u8 = 8;
}

/// A service's connections to a backend are stale: the service sends no new ones there, and
/// [`ServiceView::on_backend_down`] decides about existing ones. Sorted by backend, then service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StaleRecord {
    /// Backend id.
    pub backend: u16,
    /// Service id.
    pub service: u16,
    /// Start time, in seconds of CLOCK_MONOTONIC: 0 for a backend that is down, else the end of its drain timeout.
    pub from_s: u32,
}

described!(StaleRecord { backend, service, from_s });

/// An interval of addresses and its next hop, from `start` to the next record's start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FibRecord {
    /// First address.
    pub start: Address,
    /// [`FibKind`].
    pub kind: u8,
    /// Reserved.
    pub reserved: u8,
    /// The outgoing interface.
    pub interface: u16,
    /// The gateway in the neighbour table.
    pub neighbour: u32,
    /// Reserved.
    pub reserved2: u64,
}

described!(FibRecord { start, kind, reserved, interface, neighbour, reserved2 });

/// The next hop towards an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FibRoute {
    /// The destination is a neighbour on this interface.
    OnLink(InterfaceId),
    /// A gateway on this interface.
    Gateway(InterfaceId, NeighbourId),
    /// The record's kind is unknown to this build.
    Unknown,
}

impl FibRecord {
    /// Decodes the record; `None` if there is no route.
    #[inline]
    fn route(&self) -> Option<FibRoute> {
        let interface = InterfaceId(self.interface);
        match FibKind::of(self.kind) {
            Some(FibKind::Nowhere) => None,
            Some(FibKind::OnLink) => Some(FibRoute::OnLink(interface)),
            Some(FibKind::Gateway) => Some(FibRoute::Gateway(interface, NeighbourId(self.neighbour))),
            None => Some(FibRoute::Unknown),
        }
    }
}

/// Header of a generation's tables, written by control while the generation is idle.
#[repr(C, align(64))]
#[derive(FromBytes)]
pub struct GenerationHead<A = Reader> {
    /// Records in `fib`.
    pub fib: Counter<A>,
    /// Wall-clock time of the publication, in milliseconds since 1970.
    pub published_ms: Counter<A>,
    /// When it was filled, in milliseconds of CLOCK_MONOTONIC, for comparison with the reports' times.
    pub filled_ms: Counter<A>,
    /// Records in `stale_table`.
    pub stale: Counter<A>,
    _reserved: [Counter<A>; 4],
}

described!(GenerationHead<A> { fib, published_ms, filled_ms, stale, _reserved });

/// A view of one generation.
#[derive(Clone, Copy)]
pub struct Generation<A: Access = Reader> {
    /// Record counts and times.
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
    /// Sorted disjoint intervals of addresses: [`FibRecord`].
    pub fib: &'static [Record<FibRecord, 4, A>],
    /// Sorted disjoint intervals of clients, by service: [`ClassRecord`].
    pub classes: &'static [Record<ClassRecord, 4, A>],
    /// Pairs of backend and service whose connections are stale, now or soon: [`StaleRecord`].
    pub stale_table: &'static [Record<StaleRecord, 1, A>],
}

impl<A: Access> Generation<A> {
    /// Reads a service; `None` if the record is missing, empty or has a code that this build does not know.
    #[inline]
    pub fn service(&self, id: ServiceId) -> Option<ServiceView> {
        self.services.get(usize::from(id.0))?.load().view()
    }

    /// Reads a backend; `None` if the record is missing, empty or has a code that this build does not know.
    #[inline]
    pub fn backend(&self, id: BackendId) -> Option<BackendView> {
        self.backends.get(usize::from(id.0))?.load().view()
    }

    /// The backend in the service's cell for `hash`, which is scaled to the number of cells.
    #[inline]
    pub fn slot(&self, service: &ServiceView, hash: u32) -> Option<BackendId> {
        let cell = (u64::from(hash) * u64::from(service.slots_count)) >> 32;
        let slot = self.slots.get(service.slots_first as usize + cell as usize)?;
        (service.slots_count != 0).then(|| BackendId(slot.load(Ordering::Relaxed)))
    }

    /// The service with the slots and members of the client's class.
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

    /// A service's classes of clients, in order; empty if it has none.
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

    /// The record that makes a service's connections to a backend stale at `now_ms`; `None` if they are not stale.
    pub fn stale(&self, service: ServiceId, backend: BackendId, now_ms: u64) -> Option<StaleRecord> {
        let records = self.stale_records();
        let pair = |record: StaleRecord| (record.backend, record.service);
        let key = (backend.0, service.0);
        let at = records.partition_point(|record| pair(record.load()) < key);
        let found: StaleRecord = records.get(at)?.load();
        (pair(found) == key && now_ms / 1000 >= u64::from(found.from_s)).then_some(found)
    }

    /// Looks up the next hop: that of the last interval starting at or below the address. `None` if there is no route.
    pub fn route(&self, to: &Address) -> Option<FibRoute> {
        let intervals = self.fib_records();
        let after = intervals.partition_point(|interval| interval.load().start.number() <= to.number());
        intervals.get(after.checked_sub(1)?)?.load().route()
    }

    fn fib_records(&self) -> &'static [Record<FibRecord, 4, A>] {
        &self.fib[..(self.head.fib.get() as usize).min(self.fib.len())]
    }

    /// The next hop of each interval that has one, with duplicates.
    pub fn routes(&self) -> impl Iterator<Item = FibRoute> + '_ {
        self.fib_records().iter().filter_map(|interval| interval.load().route())
    }
}

const _: () = assert!(size_of::<ServiceRecord>() == 64 && size_of::<MemberRecord>() == 8);
const _: () = assert!(size_of::<BackendRecord>() == 32 && size_of::<StaleRecord>() == 8);
const _: () = assert!(size_of::<FibRecord>() == 32 && size_of::<ClassRecord>() == 32 && size_of::<Name>() == 32);
