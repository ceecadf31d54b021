//! The content of one generation as records: derived from table, FIB and ARP cache. Pure except for `write`.
//!
//! Equal images need no publication.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use shunt_shmlayout::access::{Access, Writer};
use shunt_shmlayout::address::{Address, BackendId, InterfaceId, NeighbourId, PortBe, ServiceId};
use shunt_shmlayout::config_table::{
    BackendRecord, ClassRecord, FibKind, FibRecord, Generation, MemberRecord, Name, ServiceRecord, StaleRecord,
};
use shunt_shmlayout::endpoints::{AddressUse, Endpoint};
use shunt_shmlayout::service::{BackendView, ServiceView, Target};
use shunt_shmlayout::sync::Ordering;

use super::arp_cache::Interned;
use super::convert;
use super::error::WriteError;
use super::fib::{Fib, FibEntry, Hop};
use super::identity::Identity;
use super::service::{Member, Service};
use super::table::{Backend, Table};

/// The content of one generation.
#[derive(PartialEq, Default)]
pub struct Image {
    services: Vec<(ServiceId, ServiceRecord, Name)>,
    backends: Vec<(BackendId, BackendRecord, Name)>,
    members: Vec<MemberRecord>,
    stale: Vec<StaleRecord>,
    classes: Vec<ClassRecord>,
    /// By service, consecutively.
    slots: Vec<Rc<[u16]>>,
    fib: Vec<FibRecord>,
    /// By address, port and protocol number; port and protocol are 0 for an address alone.
    endpoints: Vec<((Address, PortBe, u8), Endpoint)>,
}

/// The next hops that an image of these references: backends' and gateways.
pub fn hops(table: &Table, fib: &Fib) -> BTreeSet<Hop> {
    let backends = table.backends().filter_map(|(_, backend)| fib.hop(backend.identity.address));
    backends.chain(fib.gateways()).collect()
}

impl Image {
    /// Combines the sources. Hops missing in `interned` count as unreachable.
    pub fn new(table: &Table, fib: &Fib, interned: &Interned) -> Self {
        let mut image = Self { stale: table.stale(), ..Self::default() };
        let down = table.down();
        for (id, backend) in table.backends() {
            image.add_backend(id, backend, !down.contains(&id), fib, interned);
        }
        let mut slots_first = 0;
        for (id, service) in table.services() {
            slots_first = image.add_service(table, id, service, slots_first);
        }
        let host = table.host_addresses().iter().map(|address| any_port(*address));
        image.endpoints.extend(host.map(|address| (address, Endpoint::Address(AddressUse::Host))));
        image.fib = fib.intervals().iter().map(|(start, entry)| fib_record(*start, *entry, interned)).collect();
        image
    }

    fn add_backend(&mut self, id: BackendId, backend: &Backend, is_up: bool, fib: &Fib, interned: &Interned) {
        let hop = fib.hop(backend.identity.address).and_then(|hop| Some((hop.interface, *interned.get(&hop)?)));
        let (interface, neighbour) = hop.unwrap_or((InterfaceId(u16::MAX), NeighbourId::NONE));
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let Identity { address, port, protocol } = backend.identity;
        let is_stale = self.stale.binary_search_by_key(&id.0, |record| record.backend).is_ok();
        let view = BackendView {
            address,
            port,
            protocol,
            flags: flag(is_up, BackendRecord::UP)
                | flag(backend.drained, BackendRecord::DRAINED)
                | flag(backend.removed, BackendRecord::REMOVED)
                | flag(is_stale, BackendRecord::STALE),
            interface,
            neighbour,
        };
        self.backends.push((id, view.record(), Name::new(&backend.name)));
        // Replies of mode dsr bypass Shunt.
        if backend.translated {
            self.endpoints.push(((address, port, protocol.code()), Endpoint::Backend(id)));
        }
    }

    /// Returns the first slot of the next service.
    fn add_service(&mut self, table: &Table, id: ServiceId, service: &Service, slots_first: usize) -> usize {
        let Identity { address, port, protocol } = service.identity;
        let members_first = self.members.len();
        self.members.extend(service.members.iter().map(|member| member_record(table, member)));
        self.slots.push(service.slots.cells().clone());
        let view = ServiceView {
            address,
            port,
            protocol,
            mode: service.mode,
            slots_first: slots_first as u32,
            slots_count: service.slots.cells().len() as u32,
            members_first: members_first as u32,
            members_count: service.members.len() as u32,
            timeouts: service.timeouts,
            target: service.target,
            on_backend_down: service.on_backend_down,
            classes_first: self.classes.len() as u32,
            classes_count: service.ranges.len() as u32,
            algorithm: convert::algorithm(service.algorithm),
        };
        self.services.push((id, view.record(), Name::new(&service.name)));
        let (endpoint, address_use) = match service.target {
            Target::Host => (Endpoint::HostService(id), AddressUse::Shared),
            Target::Backends => (Endpoint::Service(id), AddressUse::Services),
        };
        self.endpoints.push(((address, port, protocol.code()), endpoint));
        self.endpoints.push((any_port(address), Endpoint::Address(address_use)));
        self.add_classes(table, service, &view, slots_first + service.slots.cells().len())
    }

    /// The members and slots of each class, and the ranges that select them.
    fn add_classes(&mut self, table: &Table, service: &Service, record: &ServiceView, slots_first: usize) -> usize {
        let mut next = slots_first;
        let mut classes = Vec::new();
        for class in &service.classes {
            let members_first = self.members.len();
            let members = service.members.iter().filter(|member| class.members.contains(&member.backend));
            self.members.extend(members.map(|member| member_record(table, member)));
            classes.push(ClassRecord {
                slots_first: next as u32,
                slots_count: class.slots.cells().len() as u32,
                members_first: members_first as u32,
                members_count: (self.members.len() - members_first) as u32,
                ..ClassRecord::default()
            });
            self.slots.push(class.slots.cells().clone());
            next += class.slots.cells().len();
        }
        let all = ClassRecord {
            slots_first: record.slots_first,
            slots_count: record.slots_count,
            members_first: record.members_first,
            members_count: record.members_count,
            ..ClassRecord::default()
        };
        let class = |number: Option<usize>| number.and_then(|number| classes.get(number)).copied().unwrap_or(all);
        self.classes
            .extend(service.ranges.iter().map(|(start, number)| ClassRecord { start: *start, ..class(*number) }));
        next
    }

    /// Returns true if the image contains every service and backend of `generation`.
    pub fn covers<A: Access>(&self, generation: &Generation<A>) -> bool {
        let services: BTreeSet<_> = self.services.iter().map(|(id, ..)| *id).collect();
        let backends: BTreeSet<_> = self.backends.iter().map(|(id, ..)| *id).collect();
        let service_ids = (0..generation.services.len()).map(|id| ServiceId(id as u16));
        let backend_ids = (0..generation.backends.len()).map(|id| BackendId(id as u16));
        service_ids.filter(|id| generation.service(*id).is_some()).all(|id| services.contains(&id))
            && backend_ids.filter(|id| generation.backend(*id).is_some()).all(|id| backends.contains(&id))
    }

    /// Fills an idle generation. `published_ms` is wall-clock time, `now_ms` is CLOCK_MONOTONIC. The table has checked the
    /// capacity of everything except endpoints, whose hash table may collide; the partly written generation is then
    /// discarded.
    pub fn write(&self, generation: &Generation<Writer>, published_ms: u64, now_ms: u64) -> Result<(), WriteError> {
        generation.clear();
        for (id, record, name) in &self.services {
            generation.services[usize::from(id.0)].store(record);
            generation.service_names[usize::from(id.0)].store(name);
        }
        for (id, record, name) in &self.backends {
            generation.backends[usize::from(id.0)].store(record);
            generation.backend_names[usize::from(id.0)].store(name);
        }
        for (to, from) in generation.members.iter().zip(&self.members) {
            to.store(from);
        }
        for (to, from) in generation.stale_table.iter().zip(&self.stale) {
            to.store(from);
        }
        for (to, from) in generation.classes.iter().zip(&self.classes) {
            to.store(from);
        }
        for (to, from) in generation.slots.iter().zip(self.slots.iter().flat_map(|slots| slots.iter())) {
            to.store(*from, Ordering::Relaxed); // the flip's release store comes after
        }
        for (to, from) in generation.fib.iter().zip(&self.fib) {
            to.store(from);
        }
        generation.head.fib.set(self.fib.len() as u64);
        generation.head.stale.set(self.stale.len() as u64);
        generation.head.published_ms.set(published_ms);
        generation.head.filled_ms.set(now_ms);
        for ((address, port, protocol), endpoint) in &self.endpoints {
            let added = generation.add_endpoint(*address, *port, *protocol, *endpoint);
            let at = || SocketAddr::new(IpAddr::from(*address), port.get());
            added.map_err(|_| WriteError { at: at(), endpoint: *endpoint })?;
        }
        Ok(())
    }
}

fn member_record(table: &Table, member: &Member) -> MemberRecord {
    MemberRecord {
        backend: member.backend.0,
        weight: member.weight,
        effective: table.effective_weight(member),
        // 0 marks a declined backend, so that a restarted control does not treat its checks as failing.
        factor_permille: if member.declined { 0 } else { member.factor_permille },
    }
}

/// The key of an address alone, for any port.
fn any_port(address: Address) -> (Address, PortBe, u8) {
    (address, PortBe::ZERO, 0)
}

fn fib_record(start: Address, entry: FibEntry, interned: &Interned) -> FibRecord {
    let none = FibRecord { start, kind: FibKind::Nowhere.code(), ..FibRecord::default() };
    match entry {
        FibEntry::Nowhere => none,
        FibEntry::OnLink(interface) => FibRecord { kind: FibKind::OnLink.code(), interface: interface.0, ..none },
        FibEntry::Gateway(hop) => interned.get(&hop).map_or(none, |id| FibRecord {
            kind: FibKind::Gateway.code(),
            interface: hop.interface.0,
            neighbour: id.0,
            ..none
        }),
    }
}
