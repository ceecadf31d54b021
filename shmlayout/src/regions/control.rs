//! The region that control writes: active word, ARP cache, loads, generations A and B. All other processes read it.

use super::{Typed, Whole, mapping};
use crate::access::{Access, Lends, Reader, Writer};
use crate::address::Address;
use crate::config_table::{Generation, GenerationHead};
use crate::flip::Active;
use crate::header::{Kind, lives_here};
use crate::layout::described;
use crate::loads::Loads;
use crate::map::{Mapping, Parts, lend, lend_one};
use crate::neighbours::{self, Neighbour, Neighbours};
use crate::record::Counter;
use crate::replay::ReplayPlace;
use crate::report_outcome::REPORT_OUTCOMES;
use crate::sync::{Ordering, fence};
use crate::word::Word;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Capacity for client classes, per service of the limit.
const CLASSES_PER_SERVICE: u64 = 4;

/// Capacity for stale pairs, per configured pair: itself, and the one that it replaced.
const STALE_PER_MEMBER: u64 = 2;

/// Capacity for addresses of the pseudo-interface in the endpoint hash.
pub const HOST_ADDRESSES: u64 = 64;

/// Capacities of the region.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct ControlShape {
    /// Services.
    pub services: u64,
    /// Backends.
    pub backends: u64,
    /// Cells of all services' tables.
    pub slots: u64,
    /// Pairs of service and backend.
    pub members: u64,
    /// Entries of the ARP cache.
    pub neighbours: u64,
    /// Intervals of the forwarding table: twice the routes, and one.
    pub fib: u64,
    /// Records of the endpoint hash; a power of two.
    pub endpoints: u64,
    /// Client classes of all services.
    pub classes: u64,
}

described!(ControlShape { services, backends, slots, members, neighbours, fib, endpoints, classes });

impl ControlShape {
    /// Derived from the configuration's limits.
    pub fn new(services: u32, backends: u32, slots: u32, neighbours: u32, routes: u32) -> Self {
        let endpoints = (u64::from(services) * 2 + u64::from(backends) + HOST_ADDRESSES) * 4;
        let classes = u64::from(services) * CLASSES_PER_SERVICE;
        Self {
            services: services.into(),
            backends: backends.into(),
            slots: slots.into(),
            members: u64::from(services) + u64::from(backends) * 2 + classes,
            neighbours: neighbours::places(backends, neighbours).into(),
            fib: u64::from(routes) * 2 + 1,
            endpoints: endpoints.max(64).next_power_of_two(),
            classes,
        }
    }
}

/// Control's state: flip words, process identity, counters.
#[repr(C, align(64))]
#[derive(FromBytes)]
pub struct ControlHead<A = Reader> {
    /// The flip's active word (`flip.rs`).
    pub active: Word<A>,
    _apart: [Counter<A>; 7],
    /// The next active word: its buffer is filled, and the keeper may read its addresses.
    pub prepared: Word<A>,
    /// Process id of control.
    pub pid: Counter<A>,
    /// When that process started ([`crate::header::start_time`]).
    pub start_time: Counter<A>,
    /// Time of control's last turn, in milliseconds of CLOCK_MONOTONIC.
    pub heartbeat_ms: Counter<A>,
    /// Wall-clock time of the last accepted reload, in milliseconds since 1970.
    pub reloaded_ms: Counter<A>,
    /// Reloads refused.
    pub reloads_refused: Counter<A>,
    /// Connections from this machine to a service's address for which the kernel's neighbour lookup failed.
    pub own_calls: Counter<A>,
    /// Beginnings and ends of fills of a generation (`flip.rs`): odd during a fill.
    pub fills: Word<A>,
}

described!(ControlHead<A> {
    active, _apart, prepared, pid, start_time, heartbeat_ms, reloaded_ms, reloads_refused, own_calls, fills,
});

/// A view of the control region.
#[derive(Clone, Copy)]
pub struct ControlRegion<A: Access = Reader> {
    /// Flip words, process identity, counters.
    pub head: &'static ControlHead<A>,
    /// The ARP cache.
    pub neighbours: Neighbours<'static, A>,
    /// By backend id: its last report.
    pub loads: Loads<A>,
    /// Reports by [`crate::report_outcome::ReportOutcome`].
    pub reports: &'static [Counter<A>],
    /// Private to control: replay protection that survives a restart.
    pub replay: &'static [ReplayPlace<A>],
    /// Configuration table A and B.
    pub generations: [Generation<A>; 2],
}

impl<A: Access> ControlRegion<A> {
    /// Whether control is running in the caller's network namespace.
    pub fn lives_here(&self) -> bool {
        lives_here(self.head.pid.get(), self.head.start_time.get())
    }

    /// Whether the active generation has this address, for any use. For readers that control does not wait for: retries if
    /// the generation changed during the search.
    pub fn has_address(&self, address: &Address) -> bool {
        loop {
            let active = Active(self.head.active.load(Ordering::Acquire)); // pairs with flip::publish()
            let found = active != Active::NONE && self.generations[active.buffer()].address_use(address).is_some();
            fence(Ordering::Acquire); // the search before the second load: pairs with the fence in flip::publish()
            if self.head.active.load(Ordering::Relaxed) == active.0 {
                return found;
            }
        }
    }
}

impl<A: Access> ControlRegion<A> {
    /// The same region with equal or fewer rights.
    pub fn lend<B: Access>(&self) -> ControlRegion<B>
    where
        A: Lends<B>,
    {
        ControlRegion {
            head: lend_one(self.head),
            neighbours: self.neighbours.lend(),
            loads: self.loads.lend(),
            reports: lend(self.reports),
            replay: lend(self.replay),
            generations: self.generations.each_ref().map(Generation::lend),
        }
    }
}

impl Whole for ControlRegion<Writer> {}

impl<A: Access> Typed for ControlRegion<A> {
    const KIND: Kind = Kind::Control;
    const MAPPING: Mapping = mapping(A::WRITES);
    type Shape = ControlShape;

    fn carve(parts: &mut Parts, shape: &ControlShape) -> Option<Self> {
        let head = parts.one();
        let neighbours = Neighbours(parts.take::<Neighbour<A>>(shape.neighbours as usize));
        let loads = Loads(parts.take(shape.backends as usize));
        let reports = parts.take(REPORT_OUTCOMES);
        let replay = parts.take(shape.backends as usize);
        let a = generation(parts, shape);
        let b = generation(parts, shape);
        Some(Self { head: head?, neighbours, loads, reports, replay, generations: [a?, b?] })
    }

    fn fault(shape: &ControlShape) -> Option<&'static str> {
        const LIMIT: u64 = 1 << 28;
        let numbers = [
            (shape.services, 1 << 16, "services"),
            (shape.backends, 1 << 16, "backends"),
            (shape.slots, LIMIT, "slots"),
            (shape.members, LIMIT, "members"),
            (shape.neighbours, LIMIT, "neighbours"),
            (shape.fib, LIMIT, "fib"),
            (shape.endpoints, LIMIT, "endpoints"),
            (shape.classes, LIMIT, "classes"),
        ];
        let over = numbers.into_iter().find(|(value, limit, _)| *value == 0 || value > limit).map(|(.., name)| name);
        over.or((!shape.endpoints.is_power_of_two()).then_some("endpoints"))
    }
}

fn generation<A: Access>(parts: &mut Parts, shape: &ControlShape) -> Option<Generation<A>> {
    let head = parts.one::<GenerationHead<A>>();
    let endpoints = parts.take(shape.endpoints as usize);
    let services = parts.take(shape.services as usize);
    let backends = parts.take(shape.backends as usize);
    let service_names = parts.take(shape.services as usize);
    let backend_names = parts.take(shape.backends as usize);
    let members = parts.take(shape.members as usize);
    let slots = parts.take(shape.slots as usize);
    let fib = parts.take(shape.fib as usize);
    let classes = parts.take(shape.classes as usize);
    let stale_table = parts.take((shape.members * STALE_PER_MEMBER) as usize);
    let head = head?; // after all parts are taken: there is no head while measuring
    Some(Generation {
        head,
        endpoints,
        services,
        backends,
        service_names,
        backend_names,
        members,
        slots,
        fib,
        classes,
        stale_table,
    })
}
