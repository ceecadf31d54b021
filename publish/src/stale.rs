//! Whose connections are stale: pairs of backend and service between which no new ones are made any more, because the
//! backend is down, or since it was drained, declined or left the configuration and its drain timeout is over.
//!
//! The switchers act on it (`switcher/src/filter/stale.rs`). A deadline is published when it is set, not when it is over, so it
//! holds without control too, and a restarted control reads it back.

use std::collections::{BTreeMap, BTreeSet};

use shunt_shmlayout::access::Access;
use shunt_shmlayout::address::{BackendId, Protocol, ServiceId};
use shunt_shmlayout::config_table::{Generation, StaleRecord};
use shunt_shmlayout::service::OnBackendDown;

use super::service::{Member, Service};
use super::table::{Backend, Table};
use crate::health::Health;

/// When connections of one service to its backends become stale.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// Backends that the configuration took out of the service.
    departed: BTreeSet<BackendId>,
    /// By backend that takes no new connections by somebody's will: seconds of CLOCK_MONOTONIC.
    ends_s: BTreeMap<BackendId, u32>,
}

impl Deadlines {
    /// Notes who was a member and is none any more.
    pub(super) fn note_departed(&mut self, before: &[Member], now: &[Member]) {
        let stays = |backend: BackendId| now.iter().any(|member| member.backend == backend);
        self.departed.extend(before.iter().map(|member| member.backend));
        self.departed.retain(|backend| !stays(*backend));
    }
}

impl Service {
    /// Gives each backend that is out its deadline, and takes it from those that are back.
    fn set_deadlines(&mut self, backends: &BTreeMap<BackendId, Backend>, now_s: u32) {
        let Deadlines { departed, ends_s } = &mut self.deadlines;
        // So long after its deadline the last connection has been reset, has moved or was idle for too long.
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

    /// The backends whose connections are stale, each from when on.
    fn stale(&self) -> BTreeMap<BackendId, u32> {
        let mut stale = self.deadlines.ends_s.clone();
        let down = self.members.iter().filter(|member| member.health == Health::Down);
        stale.extend(down.map(|member| (member.backend, 0)));
        stale
    }

    /// Records that it takes in the table of stale pairs if all of its backends, now and before, are out.
    pub(super) fn stale_wanted(&self) -> usize {
        if self.heeds_stale() { self.members.len() + self.deadlines.departed.len() } else { 0 }
    }

    /// Whether a switcher has to know: UDP flows that are to stay need no look.
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
        // Rounded up, so that it is never 0, which says "down".
        let now_s = u32::try_from(now_ms / 1000 + 1).unwrap_or(u32::MAX);
        self.services.values_mut().for_each(|service| service.set_deadlines(&self.backends, now_s));
    }

    /// As the switchers look it up, sorted.
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

    /// Reads the deadlines back. Whoever was down when it was drained gets a new one.
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
