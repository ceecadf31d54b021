//! Services, their backends and weights: plain values, including ids.
//!
//! Owned by control's main loop. A configuration, a health change and the operator's drain each produce a new state; slots
//! are recomputed only where effective weights changed. What leaves the configuration stays as "removed" until its last
//! connection ends (`retirement`): a removed backend has no slot, a removed service no member.

use std::collections::{BTreeMap, BTreeSet};

use shunt_config::{Algorithm, Config, Protocol};
use shunt_shmlayout::access::Access;
use shunt_shmlayout::address::{Address, BackendId, ServiceId};
use shunt_shmlayout::config_table::{Generation, Timeouts};

use super::convert;
use super::error::{CapacityError, Unpublishable};
use super::identity::Identity;
use super::service::{Member, NEUTRAL_PERMILLE, Service, weigh};
use crate::health::Health;

/// Capacity of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Services, including removed ones.
    pub services: usize,
    /// Backends, including removed ones.
    pub backends: usize,
    /// Cells of all services' tables.
    pub slots: usize,
    /// Pairs of service (or class of its clients) and backend.
    pub members: usize,
    /// Client ranges.
    pub classes: usize,
    /// Pairs of service and backend with possibly stale connections.
    pub stale: usize,
}

impl Capacity {
    /// Reads the capacity of a mapped generation.
    pub fn of<A: Access>(generation: &Generation<A>) -> Self {
        Self {
            services: generation.services.len(),
            backends: generation.backends.len(),
            slots: generation.slots.len(),
            members: generation.members.len(),
            classes: generation.classes.len(),
            stale: generation.stale_table.len(),
        }
    }
}

/// Ids that a generation in memory still references and that must not be reused yet.
#[derive(Clone, Debug, Default)]
pub struct NamedIds {
    services: BTreeSet<ServiceId>,
    backends: BTreeSet<BackendId>,
}

impl NamedIds {
    /// Ids in either generation.
    pub fn in_generations<A: Access>(generations: &[Generation<A>]) -> Self {
        let mut named = Self::default();
        for generation in generations {
            let services = (0..generation.services.len()).map(|id| ServiceId(id as u16));
            named.services.extend(services.filter(|id| generation.service(*id).is_some()));
            let backends = (0..generation.backends.len()).map(|id| BackendId(id as u16));
            named.backends.extend(backends.filter(|id| generation.backend(*id).is_some()));
        }
        named
    }
}

/// A backend and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The configured name.
    pub name: String,
    /// Address and port.
    pub identity: Identity,
    /// Whether the operator drained it.
    pub drained: bool,
    /// Whether it left the configuration.
    pub removed: bool,
    /// Whether a service in mode `nat` has used it, so that its replies must be found. Stays set while it is in the table:
    /// connections keep the mode they were created in.
    pub translated: bool,
}

/// All services and backends by id.
#[derive(Clone, Debug)]
pub struct Table {
    pub(super) capacity: Capacity,
    pub(super) services: BTreeMap<ServiceId, Service>,
    pub(super) backends: BTreeMap<BackendId, Backend>,
    pub(super) host_addresses: BTreeSet<Address>,
    names: Names,
}

/// Ids of configured services and backends by name: looked up for each result of a health check.
#[derive(Clone, Debug, Default)]
struct Names {
    services: BTreeMap<String, ServiceId>,
    backends: BTreeMap<String, BackendId>,
}

impl Table {
    /// An empty table.
    pub fn new(capacity: Capacity) -> Self {
        let (services, backends) = (BTreeMap::new(), BTreeMap::new());
        Self { capacity, services, backends, host_addresses: BTreeSet::new(), names: Names::default() }
    }

    /// Addresses of the machine's own programs.
    pub fn host_addresses(&self) -> &BTreeSet<Address> {
        &self.host_addresses
    }

    /// Returns true if the address belongs to a service, including removed ones, or to the machine's own programs.
    pub fn has_address(&self, address: &Address) -> bool {
        self.host_addresses.contains(address)
            || self.services.values().any(|service| service.identity.address == *address)
    }

    /// The services, including removed ones.
    pub fn services(&self) -> impl Iterator<Item = (ServiceId, &Service)> {
        self.services.iter().map(|(id, service)| (*id, service))
    }

    /// The backends, including removed ones.
    pub fn backends(&self) -> impl Iterator<Item = (BackendId, &Backend)> {
        self.backends.iter().map(|(id, backend)| (*id, backend))
    }

    /// A backend by id, including removed ones.
    pub fn backend(&self, id: BackendId) -> Option<&Backend> {
        self.backends.get(&id)
    }

    /// Returns true if the operator drained the backend.
    pub fn is_drained(&self, id: BackendId) -> bool {
        self.backends.get(&id).is_some_and(|backend| backend.drained)
    }

    /// The configured service of this name.
    pub fn service_named(&self, name: &str) -> Option<ServiceId> {
        self.names.services.get(name).copied()
    }

    /// The configured backend of this name.
    pub fn backend_named(&self, name: &str) -> Option<BackendId> {
        self.names.backends.get(name).copied()
    }

    /// Must be called after names or removed flags change.
    pub(super) fn index_names(&mut self) {
        let services = self.services().filter(|(_, service)| !service.is_removed());
        let services = services.map(|(id, service)| (service.name.clone(), id)).collect();
        let backends = self.backends().filter(|(_, backend)| !backend.removed);
        let backends = backends.map(|(id, backend)| (backend.name.clone(), id)).collect();
        self.names = Names { services, backends };
    }

    /// Result of a service's check of a backend; up without a check.
    pub fn health(&self, service: ServiceId, backend: BackendId) -> Health {
        self.services.get(&service).and_then(|service| service.health_of(backend)).unwrap_or(Health::Up)
    }

    /// Returns true if every check of a backend passes.
    pub fn is_up(&self, backend: BackendId) -> bool {
        self.services.values().all(|service| service.health_of(backend) != Some(Health::Down))
    }

    /// Backends with a failing check; computed at once, since each query would scan all services.
    pub fn down(&self) -> BTreeSet<BackendId> {
        let members = self.services.values().flat_map(|service| &service.members);
        members.filter(|member| member.health == Health::Down).map(|member| member.backend).collect()
    }

    /// The effective weight of a member, before feedback.
    pub fn effective_weight(&self, member: &Member) -> u16 {
        let weight = weigh(member, &self.backends).map_or(0, |member| member.effective_weight());
        u16::try_from(weight).unwrap_or(u16::MAX)
    }

    /// Records a check's result. Returns false if nothing changed.
    pub fn set_health(&mut self, service: ServiceId, backend: BackendId, health: Health) -> bool {
        let Some(service) = self.services.get_mut(&service) else { return false };
        let Some(member) = service.member_mut(backend) else { return false };
        let changed = member.health != health;
        member.health = health;
        service.refill(&self.backends);
        changed
    }

    /// Drains a backend or puts it back into service. Returns false if nothing changed.
    pub fn set_drained(&mut self, backend: BackendId, drained: bool) -> bool {
        let Some(backend) = self.backends.get_mut(&backend) else { return false };
        let changed = backend.drained != drained;
        backend.drained = drained;
        self.services.values_mut().for_each(|service| service.refill(&self.backends));
        changed
    }

    /// The table after a reload. Ids, health and drained flags of what stays are kept. `named` contains ids that must not
    /// be reused.
    pub fn configured(&self, config: &Config, named: &NamedIds) -> Result<Self, Unpublishable> {
        let mut next = self.clone();
        next.configure_backends(config, named)?;
        next.configure_services(config, named)?;
        next.index_names();
        let host = config.host.iter().flat_map(|host| &host.addresses);
        next.host_addresses = host.map(|address| Address::from_v4(address.octets())).collect();
        next.check_sums()?;
        let Self { services, backends, .. } = &mut next;
        services.values_mut().for_each(|service| service.refill(backends));
        Ok(next)
    }

    fn configure_backends(&mut self, config: &Config, named: &NamedIds) -> Result<(), Unpublishable> {
        let mut ids: BTreeMap<Identity, BackendId> = self.backends().map(|(id, b)| (b.identity, id)).collect();
        let taken: BTreeSet<BackendId> = self.backends.keys().chain(&named.backends).copied().collect();
        let mut free = (0..self.capacity.backends).map(|id| BackendId(id as u16)).filter(|id| !taken.contains(id));
        for backend in self.backends.values_mut() {
            backend.removed = true;
        }
        for service in &config.services {
            for configured in &service.backends {
                let identity = Identity::new(configured.address, service.protocol);
                let id = match ids.get(&identity) {
                    Some(id) => *id,
                    None => free.next().ok_or_else(|| Unpublishable {
                        field: format!("service.{}.backend.{}", service.name, configured.name),
                        reason: self.no_backend_id(),
                    })?,
                };
                ids.insert(identity, id);
                let name = configured.name.clone();
                let entry = self.backends.entry(id).or_insert_with(|| Backend {
                    name: name.clone(),
                    identity,
                    drained: false,
                    removed: false,
                    translated: false,
                });
                (entry.name, entry.removed) = (name, false);
                entry.translated |= convert::mode(service.mode).sees_replies();
            }
        }
        // A backend that is configured again later starts in service, however long its last connections lived.
        self.backends.values_mut().filter(|backend| backend.removed).for_each(|backend| backend.drained = false);
        Ok(())
    }

    fn configure_services(&mut self, config: &Config, named: &NamedIds) -> Result<(), Unpublishable> {
        let ids: BTreeMap<Identity, ServiceId> = self.services().map(|(id, s)| (s.identity, id)).collect();
        let backends: BTreeMap<Identity, BackendId> = self.backends().map(|(id, b)| (b.identity, id)).collect();
        let taken: BTreeSet<ServiceId> = self.services.keys().chain(&named.services).copied().collect();
        let mut free = (0..self.capacity.services).map(|id| ServiceId(id as u16)).filter(|id| !taken.contains(id));
        let mut configured_ids = BTreeSet::new();
        for configured in &config.services {
            let identity = Identity::new(configured.address, configured.protocol);
            let id = match ids.get(&identity) {
                Some(id) => *id,
                None => free.next().ok_or_else(|| Unpublishable {
                    field: format!("service.{}", configured.name),
                    reason: self.no_service_id(),
                })?,
            };
            configured_ids.insert(id);
            let service = self.services.entry(id).or_insert_with(|| Service::new(String::new(), identity));
            let members = members(configured, service, &backends);
            service.deadlines.note_departed(&service.members, &members);
            service.members = members;
            service.name.clone_from(&configured.name);
            service.target = convert::target(configured.target);
            service.mode = convert::mode(configured.mode);
            service.timeouts = timeouts(configured);
            service.on_backend_down = convert::on_backend_down(configured.on_backend_down);
            service.drain_timeout_s = configured.drain_timeout_s;
            service.slots_wanted = configured.slots as usize;
            service.algorithm = configured.algorithm;
            let named = |name: &str| configured.backends.iter().find(|backend| backend.name == name);
            let id = |name: &str| backends.get(&Identity::new(named(name)?.address, configured.protocol)).copied();
            service.classify(&configured.rules, id);
        }
        for (_, service) in self.services.iter_mut().filter(|(id, _)| !configured_ids.contains(id)) {
            service.remove();
        }
        Ok(())
    }

    fn no_backend_id(&self) -> CapacityError {
        let leaving = self.backends.values().filter(|backend| backend.removed).count();
        CapacityError::Ids { kind: "backend", limit: self.capacity.backends, leaving }
    }

    fn no_service_id(&self) -> CapacityError {
        let leaving = self.services.values().filter(|service| service.is_removed()).count();
        CapacityError::Ids { kind: "service", limit: self.capacity.services, leaving }
    }

    fn check_sums(&self) -> Result<(), Unpublishable> {
        let Capacity { slots, members, classes, stale, .. } = self.capacity;
        self.check_sum("slots", slots, Service::cells_wanted, |wanted, limit| CapacityError::Slots { wanted, limit })?;
        let too_many = |wanted, limit| CapacityError::Members { wanted, limit };
        self.check_sum("backend", members, Service::members_wanted, too_many)?;
        let too_many = |wanted, limit| CapacityError::Classes { wanted, limit };
        self.check_sum("rule", classes, |service| service.ranges.len(), too_many)?;
        let too_many = |wanted, limit| CapacityError::Stale { wanted, limit };
        self.check_sum("backend", stale, Service::stale_wanted, too_many)
    }

    /// Reports the first service whose demand exceeds the remaining capacity.
    fn check_sum(
        &self,
        key: &str,
        limit: usize,
        wanted_by: impl Fn(&Service) -> usize,
        too_many: impl Fn(usize, usize) -> CapacityError,
    ) -> Result<(), Unpublishable> {
        let wanted: usize = self.services.values().map(&wanted_by).sum();
        let mut sum = 0;
        let beyond = self.services.values().find(|service| {
            sum += wanted_by(service);
            sum > limit
        });
        let field = |service: &Service| format!("service.{}.{key}", service.name);
        beyond.map_or(Ok(()), |service| Err(Unpublishable { field: field(service), reason: too_many(wanted, limit) }))
    }
}

fn members(
    configured: &shunt_config::Service,
    before: &Service,
    backends: &BTreeMap<Identity, BackendId>,
) -> Vec<Member> {
    let known = |backend: &shunt_config::Backend| {
        backends.get(&Identity::new(backend.address, configured.protocol)).map(|id| (*id, backend.weight))
    };
    let health = |id: BackendId| match configured.health {
        Some(_) => before.health_of(id).unwrap_or(Health::Up),
        None => Health::Up,
    };
    // Where feedback no longer applies, its last result is discarded.
    let heeds = configured.algorithm == Algorithm::Even || configured.agent_check.is_some();
    let member = |(backend, weight)| {
        let before = before.member(backend);
        let factor_permille = before.filter(|_| heeds).map_or(NEUTRAL_PERMILLE, |member| member.factor_permille);
        let declined = before.is_some_and(|member| member.declined);
        Member { backend, weight, health: health(backend), factor_permille, declined }
    };
    configured.backends.iter().filter_map(known).map(member).collect()
}

fn timeouts(service: &shunt_config::Service) -> Timeouts {
    // The configuration allows at most 30 days, which fits.
    let ms = |seconds: u32| seconds.saturating_mul(1000);
    let times = &service.timeouts;
    match service.protocol {
        Protocol::Tcp => Timeouts {
            opening_ms: ms(times.tcp_opening_s),
            established_ms: ms(times.tcp_established_s),
            closing_ms: ms(times.tcp_closing_s),
            closed_ms: ms(times.tcp_closed_s),
        },
        Protocol::Udp => {
            let udp_ms = ms(times.udp_s);
            Timeouts { opening_ms: udp_ms, established_ms: udp_ms, closing_ms: udp_ms, closed_ms: udp_ms }
        }
    }
}
