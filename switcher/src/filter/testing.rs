//! A small world for tests and benchmarks: regions in memory, two interfaces, services and backends, as control and the
//! keeper would have written them.

use super::{Filter, Loads, PacketMetadata, Verdict};
use shunt_packet::testing::LOCAL_MAC;
use shunt_packet::{Buffer, PROTOCOL_TCP, PROTOCOL_UDP};
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::address::{Address, BackendId, InterfaceId, Mac, NeighbourId, PortBe, ServiceId};
use shunt_shmlayout::config_table::{
    BackendRecord, ClassRecord, FibKind, FibRecord, Generation, MemberRecord, Name, ServiceRecord, StaleRecord,
    Timeouts,
};
use shunt_shmlayout::connections::Owner;
use shunt_shmlayout::endpoints::{AddressUse, Endpoint};
use shunt_shmlayout::mode::Mode;
use shunt_shmlayout::regions::{
    ConnectionsRegion, ConnectionsShape, ControlRegion, ControlShape, InterfaceRecord, InterfaceSide, SwitcherRegion,
    SwitcherShape, Whole,
};
use shunt_shmlayout::service::{Algorithm, OnBackendDown};
use shunt_shmlayout::sync::Ordering;

/// The interface that leads to clients.
pub const CLIENTS: InterfaceId = InterfaceId(0);
/// The interface that leads to backends.
pub const BACKENDS: InterfaceId = InterfaceId(1);

/// Address and port.
pub type End = ([u8; 4], u16);

/// The services of [`three_services`]: TCP and UDP in mode `nat`, and TCP in mode `dsr`.
pub const SERVICE: End = ([198, 18, 0, 100], 80);
/// See above.
pub const DNS: End = ([198, 18, 0, 100], 53);
/// See above.
pub const DSR: End = ([198, 18, 0, 101], 80);
/// The backend of each.
pub const B1: End = ([198, 18, 1, 11], 8080);
/// See above.
pub const U1: End = ([198, 18, 1, 13], 5353);
/// See above.
pub const D1: End = ([198, 18, 1, 12], 80);

/// Services that a world has room for.
const SERVICES: u32 = 1024;
/// Switchers that a world has memory for.
const SWITCHERS: usize = 4;

/// The regions, and what stands in them.
pub struct World {
    /// What control writes.
    pub control: ControlRegion<Writer>,
    /// The same as switchers have it.
    pub tables: &'static ControlRegion,
    /// The connection table.
    pub connections: ConnectionsRegion<Writer>,
    /// What each switcher writes.
    pub switchers: [SwitcherRegion<Writer, Writer>; SWITCHERS],
    /// What the first one writes.
    pub switcher: SwitcherRegion<Writer, Writer>,
    services: u16,
    slots: usize,
    members: usize,
    classes: usize,
    backends: u16,
}

impl World {
    /// Memory for so many connections; nothing configured yet but a route for each interface: 198.18.0.0/24 to clients,
    /// 198.18.1.0/24 to backends.
    pub fn new(connections: u32) -> Self {
        let shape =
            SwitcherShape { services: SERVICES.into(), backends: 64, interfaces: 2, frames: 1024, reserved: [0; 4] };
        let memory = "anonymous memory";
        let connections = ConnectionsRegion::anonymous(&ConnectionsShape::new(connections)).expect(memory);
        connections.set_key([0x5eed, 0x0dd]);
        let control = ControlRegion::anonymous(&ControlShape::new(SERVICES, 64, 1 << 16, 256, 64)).expect(memory);
        let switchers = core::array::from_fn(|_| SwitcherRegion::anonymous(&shape).expect(memory));
        let world = Self {
            control,
            tables: Box::leak(Box::new(control.lend())),
            connections,
            switchers,
            switcher: switchers[0],
            services: 0,
            slots: 0,
            members: 0,
            classes: 0,
            backends: 0,
        };
        world.range(0, [0, 0, 0, 0], FibKind::Nowhere, 0);
        world.range(1, [198, 18, 0, 0], FibKind::OnLink, CLIENTS.0);
        world.range(2, [198, 18, 1, 0], FibKind::OnLink, BACKENDS.0);
        world.range(3, [198, 18, 2, 0], FibKind::Nowhere, 0);
        world
    }

    /// The generation that the filter decides by.
    pub fn generation(&self) -> &Generation<Writer> {
        &self.control.generations[1]
    }

    fn range(&self, index: usize, start: [u8; 4], kind: FibKind, interface: u16) {
        let (start, kind) = (Address::from_v4(start), kind.code());
        let record = FibRecord { start, kind, interface, neighbour: NeighbourId::NONE.0, ..Default::default() };
        self.generation().fib[index].store(&record);
        self.generation().head.fib.set(index as u64 + 1);
    }

    /// Tells who has an address behind an interface.
    pub fn neighbour(&self, interface: InterfaceId, address: [u8; 4], mac: [u8; 6]) -> NeighbourId {
        let id = self.control.neighbours.intern(interface, &Address::from_v4(address), |_| true).expect("room");
        self.control.neighbours.resolve(id, Some(Mac(mac)));
        id
    }

    /// A backend, resolved to the Ethernet address 02:00:00:00:b0:ID.
    pub fn backend(&mut self, (address, port): ([u8; 4], u16), protocol: u8) -> BackendId {
        let id = self.backends;
        self.backends += 1;
        let neighbour = self.neighbour(BACKENDS, address, [2, 0, 0, 0, 0xb0, id as u8]);
        let (address, port) = (Address::from_v4(address), PortBe::new(port));
        let record = BackendRecord {
            address,
            port,
            protocol,
            flags: BackendRecord::UP,
            interface: BACKENDS.0,
            neighbour: neighbour.0,
            ..Default::default()
        };
        self.generation().backends[usize::from(id)].store(&record);
        self.generation().backend_names[usize::from(id)].store(&Name::new(&format!("b{id}")));
        self.generation().add_endpoint(address, port, protocol, Endpoint::Backend(BackendId(id))).expect("room");
        BackendId(id)
    }

    /// A service whose cells name these backends in turn.
    pub fn service(
        &mut self,
        (address, port): ([u8; 4], u16),
        protocol: u8,
        mode: Mode,
        backends: &[BackendId],
    ) -> ServiceId {
        let slots = if backends.is_empty() { 0 } else { 1021 };
        self.service_of(slots, (address, port), protocol, mode, backends)
    }

    /// A service with so many cells, which name these backends in turn.
    pub fn service_of(
        &mut self,
        slots: usize,
        (address, port): ([u8; 4], u16),
        protocol: u8,
        mode: Mode,
        backends: &[BackendId],
    ) -> ServiceId {
        let id = ServiceId(self.services);
        self.services += 1;
        let (address, port) = (Address::from_v4(address), PortBe::new(port));
        let cells = &self.generation().slots[self.slots..self.slots + slots];
        for (cell, backend) in cells.iter().zip(backends.iter().cycle()) {
            cell.store(backend.0, Ordering::Relaxed);
        }
        let record = ServiceRecord {
            address,
            port,
            protocol,
            mode: mode.code(),
            slots_first: self.slots as u32,
            slots_count: slots as u32,
            timeouts: Timeouts {
                opening_ms: 240_000,
                established_ms: 7_440_000,
                closing_ms: 240_000,
                closed_ms: 10_000,
            },
            ..Default::default()
        };
        self.slots += slots;
        let generation = self.generation();
        generation.services[usize::from(id.0)].store(&record);
        generation.add_endpoint(address, port, protocol, Endpoint::Service(id)).expect("room");
        generation.add_endpoint(address, PortBe::ZERO, 0, Endpoint::Address(AddressUse::Services)).expect("room");
        id
    }

    /// A service that the box's own programs serve.
    pub fn host_service(&mut self, (address, port): ([u8; 4], u16), protocol: u8) -> ServiceId {
        let id = self.service((address, port), protocol, Mode::Nat, &[]);
        let (generation, address) = (self.generation(), Address::from_v4(address));
        generation.add_endpoint(address, PortBe::new(port), protocol, Endpoint::HostService(id)).expect("room");
        generation.add_endpoint(address, PortBe::ZERO, 0, Endpoint::Address(AddressUse::Shared)).expect("room");
        id
    }

    /// An address that is wholly the box's own programs'.
    pub fn host_address(&self, address: [u8; 4]) {
        let address = Address::from_v4(address);
        self.generation().add_endpoint(address, PortBe::ZERO, 0, Endpoint::Address(AddressUse::Host)).expect("room");
    }

    /// Has all that follows the networks of [`World::new`] reached by a gateway.
    pub fn gateway(&self, start: [u8; 4], interface: InterfaceId, gateway: NeighbourId) {
        let (start, kind) = (Address::from_v4(start), FibKind::Gateway.code());
        let record = FibRecord { start, kind, interface: interface.0, neighbour: gateway.0, ..Default::default() };
        self.generation().fib[3].store(&record);
    }

    /// Has a service choose by an algorithm among these backends with these weights in force; 0 takes no connections.
    pub fn balance(&mut self, id: ServiceId, algorithm: Algorithm, members: &[(BackendId, u16)]) {
        let record: ServiceRecord = self.generation().services[usize::from(id.0)].load();
        let among = self.among(members);
        self.generation().services[usize::from(id.0)].store(&ServiceRecord {
            slots_first: among.slots_first,
            slots_count: among.slots_count,
            members_first: among.members_first,
            members_count: among.members_count,
            algorithm: algorithm.code(),
            ..record
        });
    }

    /// Says what becomes of a service's stale connections.
    pub fn on_backend_down(&self, id: ServiceId, on_backend_down: OnBackendDown) {
        let record = &self.generation().services[usize::from(id.0)];
        record.store(&ServiceRecord { on_backend_down: on_backend_down.code(), ..record.load() });
    }

    /// Makes the connections of these pairs stale from some second on, 0 for "down", and those of no other. In the order
    /// of backends, then services.
    pub fn stale(&self, pairs: &[(BackendId, ServiceId, u32)]) {
        let generation = self.generation();
        for (id, backend) in generation.backends.iter().enumerate() {
            let record: BackendRecord = backend.load();
            let is_stale = pairs.iter().any(|(backend, ..)| usize::from(backend.0) == id);
            let flag = if is_stale { BackendRecord::STALE } else { 0 };
            backend.store(&BackendRecord { flags: record.flags & !BackendRecord::STALE | flag, ..record });
        }
        for (record, (backend, service, from_s)) in generation.stale_table.iter().zip(pairs) {
            record.store(&StaleRecord { backend: backend.0, service: service.0, from_s: *from_s });
        }
        generation.head.stale.set(pairs.len() as u64);
    }

    /// Has these backends serve a service's clients from this address on, to the next one so given. In the order of
    /// addresses, all of one service together.
    pub fn class(&mut self, id: ServiceId, start: [u8; 4], members: &[(BackendId, u16)]) {
        let record: ServiceRecord = self.generation().services[usize::from(id.0)].load();
        let class = ClassRecord { start: Address::from_v4(start), ..self.among(members) };
        self.generation().classes[self.classes].store(&class);
        self.classes += 1;
        let classes_count = record.classes_count + 1;
        let classes_first = self.classes as u32 - classes_count;
        let record = ServiceRecord { classes_first, classes_count, ..record };
        self.generation().services[usize::from(id.0)].store(&record);
    }

    /// Cells and member records for these backends.
    fn among(&mut self, members: &[(BackendId, u16)]) -> ClassRecord {
        let (generation, slots_first, members_first) = (self.generation(), self.slots, self.members);
        let takers: Vec<BackendId> = members.iter().filter(|(_, weight)| *weight > 0).map(|(id, _)| *id).collect();
        let slots_count = if takers.is_empty() { 0 } else { 1021 };
        for (cell, backend) in generation.slots[slots_first..][..slots_count].iter().zip(takers.iter().cycle()) {
            cell.store(backend.0, Ordering::Relaxed);
        }
        for (record, (backend, weight)) in generation.members[members_first..].iter().zip(members) {
            let (backend, weight) = (backend.0, *weight);
            record.store(&MemberRecord { backend, weight, effective: weight, factor_permille: 1000 });
        }
        self.slots += slots_count;
        self.members += members.len();
        ClassRecord {
            slots_first: slots_first as u32,
            slots_count: slots_count as u32,
            members_first: members_first as u32,
            members_count: members.len() as u32,
            ..Default::default()
        }
    }

    /// The interfaces as the filter knows them; both have the tests' own Ethernet address.
    pub fn interfaces() -> Vec<InterfaceRecord> {
        let interface = |name, side: InterfaceSide| InterfaceRecord {
            name: Name::new(name),
            ifindex: 1,
            mtu: 1500,
            mac: LOCAL_MAC,
            side: side.code(),
            reserved: [0; 17],
        };
        vec![interface("clients", InterfaceSide::Client), interface("backends", InterfaceSide::Backend)]
    }

    /// A switcher's filter over this world.
    pub fn filter(&self, number: u8) -> Filter {
        let table = self.connections.table().expect("a whole table");
        let loads = Loads::new(&self.switchers.map(|region| region.lend()), self.tables.loads);
        let region: SwitcherRegion<Writer> = self.switchers[usize::from(number)].lend();
        let owner = Owner::adopt(table, number, region.counts_in_flight());
        let mut filter = Filter::new(owner, self.tables.neighbours, Self::interfaces(), region, loads);
        filter.follow(&self.tables.generations[1]);
        filter
    }
}

/// A world with three services that have a backend each, and the first one's.
pub fn three_services() -> (World, BackendId) {
    let mut world = World::new(4096);
    let b1 = world.backend(B1, PROTOCOL_TCP);
    let u1 = world.backend(U1, PROTOCOL_UDP);
    let d1 = world.backend(D1, PROTOCOL_TCP);
    world.service(SERVICE, PROTOCOL_TCP, Mode::Nat, &[b1]);
    world.service(DNS, PROTOCOL_UDP, Mode::Nat, &[u1]);
    world.service(DSR, PROTOCOL_TCP, Mode::Dsr, &[d1]);
    (world, b1)
}

/// What becomes of a frame, and what would be sent.
pub fn through(filter: &mut Filter, mut frame: Vec<u8>, from: InterfaceId) -> (Verdict, Vec<u8>) {
    let verdict = pass(filter, &mut frame, from, 1000);
    (verdict, frame)
}

/// Takes one frame through all three steps. The frame becomes what would be sent.
pub fn pass(filter: &mut Filter, frame: &mut Vec<u8>, interface: InterfaceId, now_ms: u64) -> Verdict {
    let mut metadata: PacketMetadata = filter.parse(frame, interface, false);
    filter.prefetch(&mut metadata);
    let received = frame.len();
    frame.resize(received.max(128), 0); // a buffer has room behind a short packet
    let verdict = filter.decide(&mut Buffer::from(&mut frame[..]), &metadata, interface, now_ms);
    frame.truncate(match verdict {
        Verdict::Forward(_, length) | Verdict::Reply(length) | Verdict::ToHost(length) => length,
        _ => received,
    });
    verdict
}
