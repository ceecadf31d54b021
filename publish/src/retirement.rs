//! Frees what left the configuration once no connection references it and no switcher can create one that does.
//!
//! Pure except for the scan of the connection table, which is slow and runs beside the main loop. A scan is valid for what
//! was removed in the generation that every live switcher used when it started: such a switcher finds no slot with a
//! removed backend, and no slot at all in a removed service.

use std::collections::BTreeSet;

use shunt_shmlayout::address::{BackendId, ServiceId};
use shunt_shmlayout::connections::Connections;

use super::service::Service;
use super::table::Table;

/// Live connections by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    services: Vec<u64>,
    backends: Vec<u64>,
}

impl ConnectionCounts {
    /// Scans the whole connection table.
    pub fn scan(connections: &Connections<'_>, services: usize, backends: usize) -> Self {
        let mut counts = Self { services: vec![0; services], backends: vec![0; backends] };
        for (connection, ..) in connections.live() {
            // Ids come from shared memory: an id out of range is ignored.
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

/// What was removed when a scan started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaving {
    /// Removed services.
    pub services: BTreeSet<ServiceId>,
    /// Removed backends.
    pub backends: BTreeSet<BackendId>,
}

impl Leaving {
    /// Returns true if nothing was removed.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.backends.is_empty()
    }
}

impl Table {
    /// Everything that is kept only for its connections.
    pub fn leaving(&self) -> Leaving {
        Leaving {
            services: self.services().filter(|(_, service)| service.is_removed()).map(|(id, _)| id).collect(),
            backends: self.backends().filter(|(_, backend)| backend.removed).map(|(id, _)| id).collect(),
        }
    }

    /// Returns true if connections must be counted: something is leaving or draining.
    pub fn is_draining(&self) -> bool {
        self.backends.values().any(|backend| backend.removed || backend.drained)
            || self.services.values().any(Service::is_removed)
    }

    /// Frees those of `leaving` without connections. Returns their names.
    pub fn retire(&mut self, leaving: &Leaving, counts: &ConnectionCounts) -> Vec<String> {
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
