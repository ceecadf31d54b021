//! The state of services and backends, from the active configuration's table.

use super::problems::{ServiceState, UnreachableBackend, WayFault, way_fault};
use super::served::served;
use crate::configuration::{Backend, Configuration};
use crate::memory::Memory;
use shunt_shmlayout::config_table::BackendRecord;
use shunt_shmlayout::service::{ServiceView, Target};
use std::collections::BTreeSet;

/// The state of services and backends; empty before the first configuration.
#[derive(Default)]
pub struct State {
    /// The services.
    pub services: Vec<ServiceState>,
    /// Names of the backends that a health check took out.
    pub down: Vec<String>,
    /// Names of the other backends whose agents decline connections.
    pub declined: Vec<String>,
    /// Backends that are up, but that no packet reaches.
    pub unreachable: Vec<UnreachableBackend>,
}

/// Reads the state.
pub fn state(memory: &Memory) -> State {
    let Ok(configuration) = Configuration::read(&memory.control) else { return State::default() };
    let is_configured = |record: &ServiceView| match record.target {
        Target::Host => true,
        Target::Backends => record.members_count > 0,
    };
    let services = configuration.services.iter().filter(|service| is_configured(&service.record));
    let faulty: Vec<(&Backend, WayFault)> =
        configuration.backends.iter().filter_map(|backend| Some((backend, way_fault(memory, backend)?))).collect();
    let ids = faulty.iter().map(|(backend, _)| backend.id.0).collect();
    let services = services.map(|service| ServiceState { name: service.name.clone(), served: served(service, &ids) });
    let takes_part = |backend: &&Backend| !backend.is(BackendRecord::DRAINED | BackendRecord::REMOVED);
    let (up, down): (Vec<&Backend>, Vec<&Backend>) =
        configuration.backends.iter().filter(takes_part).partition(|backend| backend.is(BackendRecord::UP));
    // A factor of 0 means that its agent declined.
    let members = configuration.services.iter().flat_map(|service| &service.members);
    let declined: BTreeSet<u16> =
        members.filter(|member| member.factor_permille == 0).map(|member| member.backend).collect();
    let names = |backends: &[&Backend]| backends.iter().map(|backend| backend.name.clone()).collect();
    let declining: Vec<&Backend> = up.into_iter().filter(|backend| declined.contains(&backend.id.0)).collect();
    let is_used = |backend: &Backend| backend.is(BackendRecord::UP) && takes_part(&backend);
    let unreachable = faulty.iter().filter(|(backend, _)| is_used(backend));
    let unreachable =
        unreachable.map(|(backend, fault)| UnreachableBackend { name: backend.name.clone(), fault: fault.clone() });
    State {
        services: services.collect(),
        down: names(&down),
        declined: names(&declining),
        unreachable: unreachable.collect(),
    }
}
