//! Applies check results to the table, the log and the notes.

use std::collections::BTreeSet;

use log::{info, warn};

use super::Control;
use super::cause::Cause;
use super::outside::Outputs;
use crate::clock::Now;
use crate::health::configured::checks;
use crate::health::{BackendKey, Health, HealthUpdate};
use shunt_publish::table::Table;

impl Control {
    /// Starts the configured checks.
    pub(super) fn check_health(&mut self, now: Now, outputs: &mut Outputs) {
        let checks = checks(&self.config);
        let checked: BTreeSet<&BackendKey> = checks.iter().map(|check| &check.key).collect();
        self.notes.retain(|key| checked.contains(key));
        let table = &self.table;
        checked.iter().for_each(|key| self.notes.begin(key, health_of(table, key), now.wall_ms()));
        self.checked.configure(&checks);
        let with_health = checks.into_iter().map(|check| (health_of(table, &check.key), check));
        outputs.checks = Some(with_health.map(|(health, check)| (check, health)).collect());
    }

    pub(super) fn record_health(&mut self, report: HealthUpdate, now: Now) {
        let HealthUpdate { key, health, is_change, reason } = &report;
        let ids = self.table.service_named(&key.service).zip(self.table.backend_named(&key.backend));
        let Some((service, backend)) = ids else { return };
        match health {
            _ if !is_change => {}
            Health::Up => info!("backend {} is up for service {}: {reason}", key.backend, key.service),
            Health::Down => warn!("backend {} is down for service {}: {reason}", key.backend, key.service),
        }
        if self.table.set_health(service, backend, *health) {
            self.publication.mark(Cause::Health);
        }
        self.notes.add(report, now.wall_ms());
    }
}

/// Up for an unknown backend.
pub fn health_of(table: &Table, key: &BackendKey) -> Health {
    let ids = table.service_named(&key.service).zip(table.backend_named(&key.backend));
    ids.map_or(Health::Up, |(service, backend)| table.health(service, backend))
}
