//! Stale connections: those of a backend and service that get no new ones, because the backend is down, or because its
//! drain timeout has passed since it was drained, declined or left the configuration.
//!
//! The switchers apply it (`switcher/src/filter/stale.rs`). A deadline is published when it is set, not when it expires, so
//! it holds without control, and a restarted control reads it back.

use std::collections::{BTreeMap, BTreeSet};

use shunt_shmlayout::access::Access;
use shunt_shmlayout::address::{BackendId, Protocol, ServiceId};
use shunt_shmlayout::config_table::{Generation, StaleRecord};
use shunt_shmlayout::service::OnBackendDown;

use super::service::{Member, Service};
use super::table::{Backend, Table};
use crate::health::Health;

/// When one service's connections to its backends become stale.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// Backends that the configuration removed from the service.
    departed: BTreeSet<BackendId>,
    /// By backend that was taken out or declined: the deadline, seconds of CLOCK_MONOTONIC.
    ends_s: BTreeMap<BackendId, u32>,
}

impl Deadlines {
    /// Records former members.
    pub(super) fn note_departed(&mut self, before: &[Member], now: &[Member]) {
        let stays = |backend: BackendId| now.iter().any(|member| member.backend == backend);
        self.departed.extend(before.iter().map(|member| member.backend));
        self.departed.retain(|backend| !stays(*backend));
    }
}

impl Service {
    /// Sets the deadline of each backend that is out, and clears it for those that are back.
    fn set_deadlines(&mut self, backends: &BTreeMap<BackendId, Backend>, now_s: u32) {
        let Deadlines { departed, ends_s } = &mut self.deadlines;
        // By this time after the deadline, the last connection has been reset, moved or expired.
        let idle_s = self.timeouts.established_ms / 1000;
        let is_over = |id: &BackendId| ends_s.get(id).is_some_and(|end_s| now_s > end_s.saturating_add(idle_s));
        departed.retain(|id| backends.contains_key(id) && !is_over(id));
        let is_drained = |id: BackendId| backends.get(&id).is_some_and(|backend| backend.drained);
        let out = self.members.iter().filter(|member| member.declined || is_drained(member.backend));
        let out: BTreeSet<_> = out.map(|member| member.backend).chain(departed.iter().copied()).collect();
        ends_s.retain(|id, _| out.contains(id));
        for id in out {
            ends_s.entry(id).or_insert(now_s.saturating_add(self.drain_timeout_s));
        }
    }

    /// The backends with stale connections, and each start time.
    fn stale(&self) -> BTreeMap<BackendId, u32> {
        let mut stale = self.deadlines.ends_s.clone();
        let down = self.members.iter().filter(|member| member.health == Health::Down);
        stale.extend(down.map(|member| (member.backend, 0)));
        stale
    }

    /// Number of its records in the stale table if all its backends, present and former, are out.
    pub(super) fn stale_wanted(&self) -> usize {
        if self.heeds_stale() { self.members.len() + self.deadlines.departed.len() } else { 0 }
    }

    /// Returns true if switchers need the deadline; UDP flows that stay need no check.
    fn heeds_stale(&self) -> bool {
        match (self.identity.protocol, self.on_backend_down) {
            (Protocol::Tcp, OnBackendDown::Keep | OnBackendDown::Move | OnBackendDown::Reset) => true,
            (Protocol::Udp, OnBackendDown::Move) => true,
            (Protocol::Udp, OnBackendDown::Keep | OnBackendDown::Reset) => false,
        }
    }
}

impl Table {
    /// Sets the deadlines of those that were taken out since the last call.
    pub fn set_deadlines(&mut self, now_ms: u64) {
        // Rounded up, so that it is never 0, which means "down".
        let now_s = u32::try_from(now_ms / 1000 + 1).unwrap_or(u32::MAX);
        self.services.values_mut().for_each(|service| service.set_deadlines(&self.backends, now_s));
    }

    /// Sorted, as the switchers search it.
    pub(super) fn stale(&self) -> Vec<StaleRecord> {
        let services = self.services().filter(|(_, service)| service.heeds_stale());
        let records = services.flat_map(|(service, it)| {
            let record = move |(backend, from_s): (BackendId, u32)| StaleRecord {
                backend: backend.0,
                service: service.0,
                from_s,
            };
            it.stale().into_iter().map(record)
        });
        let mut records: Vec<_> = records.collect();
        records.sort_by_key(|record| (record.backend, record.service));
        records
    }

    /// Reads the deadlines back. A backend that was down when it was drained gets a new one.
    pub(super) fn recover_deadlines<A: Access>(&mut self, generation: &Generation<A>) {
        for StaleRecord { backend, service, from_s } in generation.stale_pairs().filter(|pair| pair.from_s != 0) {
            let Some(service) = self.services.get_mut(&ServiceId(service)) else { continue };
            let backend = BackendId(backend);
            if service.member(backend).is_none() {
                service.deadlines.departed.insert(backend);
            }
            service.deadlines.ends_s.insert(backend, from_s);
        }
    }
}
