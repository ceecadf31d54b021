//! Connections that are in flight, and those that are over but not freed yet.
//!
//! Counted in the connection table: it says of each which service and backend it has, and a switcher that was killed between
//! an entry and its counters leaves no error there.

use serde::Serialize;
use shunt_shmlayout::address::{BackendId, ServiceId};
use shunt_shmlayout::connections::{Activity, Connections};
use shunt_shmlayout::record::Counter;
use shunt_shmlayout::regions::SwitcherRegion;
use std::collections::HashMap;

/// Entries of the connection table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// In flight: from the first packet to the first FIN or RST, a UDP flow until it is silent for its timeout.
    #[serde(rename = "active_connections")]
    pub active: u64,
    /// Over, and kept until the timeout of closing or closed connections: late packets find their way.
    #[serde(rename = "inactive_connections")]
    pub inactive: u64,
}

impl Counts {
    /// By the switchers' counters, without a walk through the table.
    pub fn counted(switchers: &[SwitcherRegion]) -> Self {
        let each = || switchers.iter().flat_map(|region| region.backends);
        // Those closed first: a connection that comes and goes in between can't make the difference negative.
        let closed = each().map(|backend| backend.closed.get()).fold(0, u64::wrapping_add);
        let live = each().map(|backend| backend.opened.get()).fold(0, u64::wrapping_add).saturating_sub(closed);
        let in_flight = switchers.iter().flat_map(|region| region.in_flight);
        let in_flight = in_flight.map(Counter::get).fold(0, u64::wrapping_add).cast_signed();
        // The counters aren't read at one moment.
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

/// By whom the entries are used.
#[derive(Default)]
pub struct Use {
    /// All.
    pub total: Counts,
    services: HashMap<ServiceId, Counts>,
    backends: HashMap<BackendId, Counts>,
}

impl Use {
    /// Goes through the table once, while connections come and go.
    pub fn of(table: &Connections<'_>) -> Self {
        let mut usage = Self::default();
        for (connection, activity, _) in table.live() {
            usage.total.add(&activity);
            usage.services.entry(connection.service).or_default().add(&activity);
            usage.backends.entry(connection.backend).or_default().add(&activity);
        }
        usage
    }

    /// Those of a service.
    pub fn of_service(&self, id: ServiceId) -> Counts {
        self.services.get(&id).copied().unwrap_or_default()
    }

    /// Those of a backend.
    pub fn of_backend(&self, id: BackendId) -> Counts {
        self.backends.get(&id).copied().unwrap_or_default()
    }
}
