//! The end of what left the configuration: once no connection names it, and no switcher can make one that does.
//!
//! Pure but for the scan of the connection table, which takes its time and runs beside the main loop. A scan counts for
//! what was removed in the generation that every live switcher used when it began: such a switcher finds no slot that
//! names a removed backend, and no slot at all in a removed service.

use std::collections::BTreeSet;

use shunt_shmlayout::address::{BackendId, ServiceId};
use shunt_shmlayout::connections::Connections;

use super::service::Service;
use super::table::Table;

/// Live connections by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    services: Vec<u64>,
    backends: Vec<u64>,
}

impl Counts {
    /// Looks through the whole connection table.
    pub fn scan(connections: &Connections<'_>, services: usize, backends: usize) -> Self {
        let mut counts = Self { services: vec![0; services], backends: vec![0; backends] };
        for (connection, ..) in connections.live() {
            // Ids come from shared memory: one that is out of range names nobody.
            if let Some(count) = counts.services.get_mut(usize::from(connection.service.0)) {
                *count += 1;
            }
            if let Some(count) = counts.backends.get_mut(usize::from(connection.backend.0)) {
                *count += 1;
            }
        }
        counts
    }

    /// Connections of a backend.
    pub fn of_backend(&self, id: BackendId) -> u64 {
        self.backends.get(usize::from(id.0)).copied().unwrap_or(0)
    }

    /// Connections of a service.
    pub fn of_service(&self, id: ServiceId) -> u64 {
        self.services.get(usize::from(id.0)).copied().unwrap_or(0)
    }
}

/// What was removed when a scan began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaving {
    /// Services.
    pub services: BTreeSet<ServiceId>,
    /// Backends.
    pub backends: BTreeSet<BackendId>,
}

impl Leaving {
    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.backends.is_empty()
    }
}

impl Table {
    /// Whatever is only kept for its connections.
    pub fn leaving(&self) -> Leaving {
        Leaving {
            services: self.services().filter(|(_, service)| service.is_removed()).map(|(id, _)| id).collect(),
            backends: self.backends().filter(|(_, backend)| backend.removed).map(|(id, _)| id).collect(),
        }
    }

    /// Whether connections are to be counted: somebody leaves, or the operator wants to know how far a drain is.
    pub fn is_draining(&self) -> bool {
        self.backends.values().any(|backend| backend.removed || backend.drained)
            || self.services.values().any(Service::is_removed)
    }

    /// Forgets those of `leaving` that have no connection. Returns the names of those forgotten.
    pub fn retire(&mut self, leaving: &Leaving, counts: &Counts) -> Vec<String> {
        let mut names = Vec::new();
        self.services.retain(|id, service| {
            let gone = service.is_removed() && leaving.services.contains(id) && counts.of_service(*id) == 0;
            names.extend(gone.then(|| format!("service {}", service.name)));
            !gone
        });
        self.backends.retain(|id, backend| {
            let gone = backend.removed && leaving.backends.contains(id) && counts.of_backend(*id) == 0;
            names.extend(gone.then(|| format!("backend {}", backend.name)));
            !gone
        });
        names
    }
}
