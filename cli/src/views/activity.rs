//! Counts connections in flight, and those that are over but not freed yet.
//!
//! Counted in the connection table, whose entries name their service and backend: unlike counters, it is not left wrong by
//! a switcher killed between an entry and its counters.

use serde::Serialize;
use shunt_shmlayout::address::{BackendId, ServiceId};
use shunt_shmlayout::connections::{Activity, Connections};
use shunt_shmlayout::record::Counter;
use shunt_shmlayout::regions::SwitcherRegion;
use std::collections::HashMap;

/// Entries of the connection table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// In flight: from the first packet to the first FIN or RST; a UDP flow until its idle timeout.
    #[serde(rename = "active_connections")]
    pub active: u64,
    /// Over, but kept until the timeout of closing or closed connections, so that late packets are still forwarded.
    #[serde(rename = "inactive_connections")]
    pub inactive: u64,
}

impl Counts {
    /// Computed from the switchers' counters, without walking the table.
    pub fn counted(switchers: &[SwitcherRegion]) -> Self {
        let each = || switchers.iter().flat_map(|region| region.backends);
        // Closed first: a connection that opens and closes in between cannot make the difference negative.
        let closed = each().map(|backend| backend.closed.get()).fold(0, u64::wrapping_add);
        let live = each().map(|backend| backend.opened.get()).fold(0, u64::wrapping_add).saturating_sub(closed);
        let in_flight = switchers.iter().flat_map(|region| region.in_flight);
        let in_flight = in_flight.map(Counter::get).fold(0, u64::wrapping_add).cast_signed();
        // The counters are not read atomically.
        let active = in_flight.max(0).cast_unsigned().min(live);
        Self { active, inactive: live - active }
    }

    fn add(&mut self, activity: &Activity) {
        match activity.flags & Activity::ENDED {
            0 => self.active += 1,
            _ => self.inactive += 1,
        }
    }
}

/// Entry counts by service and backend.
#[derive(Default)]
pub struct Use {
    /// All entries.
    pub total: Counts,
    services: HashMap<ServiceId, Counts>,
    backends: HashMap<BackendId, Counts>,
}

impl Use {
    /// Walks the table once, while connections come and go.
    pub fn of(table: &Connections<'_>) -> Self {
        let mut usage = Self::default();
        for (connection, activity, _) in table.live() {
            usage.total.add(&activity);
            usage.services.entry(connection.service).or_default().add(&activity);
            usage.backends.entry(connection.backend).or_default().add(&activity);
        }
        usage
    }

    /// Counts of a service.
    pub fn of_service(&self, id: ServiceId) -> Counts {
        self.services.get(&id).copied().unwrap_or_default()
    }

    /// Counts of a backend.
    pub fn of_backend(&self, id: BackendId) -> Counts {
        self.backends.get(&id).copied().unwrap_or_default()
    }
}
