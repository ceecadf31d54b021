//! The resource manager (patent Fig. 4): "receives raw data from the back-end application servers", decides what of it is
//! to be believed, and knows each backend's load until it is too old.
//!
//! ```text
//!  datagram --> agents (whose, authentic, new) --> plausible --> load (smoothed, ages) --> LoadRecord, at once
//!                    \                                 \             \--> master, some times a second
//!                     '----------- ReportOutcome -------'--> counted
//! ```
//!
//! Pure but for `socket` and `agent_check`: bytes and time in, outcomes and loads out. What isn't believed is counted
//! and changes nothing.

pub mod agent_check;
pub mod load;
pub mod plausible;
pub mod smoothing;
pub mod socket;
pub mod watch;
pub mod workers;

use std::collections::BTreeMap;

use crate::health::BackendKey;
use crate::master::feedback::{AgentState, Objection};
use shunt_config::Feedback;
use shunt_report::{Arrival, Load, Refusal, Report};
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::replay::ReplayPlace;
use shunt_shmlayout::report_outcome::ReportOutcome;

use load::{BackendLoad, objection};
use shunt_publish::agents::Agents;

/// Where it is known from how loaded a backend is, and whether it takes connections. One file an implementation: Shunt's own
/// agents report (this one), HAProxy's are asked (`agent_check`).
pub trait LoadSource {
    /// Whether anything is to be known of a backend as a service sees it.
    fn expects(&self, key: &BackendKey) -> bool;

    /// What is known of it; [`AgentState::None`] of one that nothing is to be known of. `opened` are the connections that
    /// switchers opened less closed since the last report.
    fn agent_state(&self, key: &BackendKey, opened: i64, now_ms: u64) -> AgentState;
}

/// Everything that agents said.
pub struct ResourceManager {
    agents: Agents,
    /// By backend's name.
    loads: BTreeMap<String, BackendLoad>,
    /// The backends' own, by name.
    ports: BTreeMap<String, u16>,
    silence_ms: u64,
    smoothing_ms: f64,
}

impl ResourceManager {
    /// Knows nobody's load yet.
    pub fn new(feedback: &Feedback, agents: Agents, ports: BTreeMap<String, u16>) -> Self {
        let (loads, silence_ms, smoothing_ms) = (BTreeMap::new(), 0, 0.0);
        let mut manager = Self { agents: Agents::default(), loads, ports: BTreeMap::new(), silence_ms, smoothing_ms };
        manager.configure(feedback, agents, ports);
        manager
    }

    /// Takes a configuration over. What is known of backends that still have the same agent stays known, and what that
    /// agent sent before still can't be sent again.
    pub fn configure(&mut self, feedback: &Feedback, agents: Agents, ports: BTreeMap<String, u16>) {
        self.ports = ports;
        self.agents = agents.after(std::mem::take(&mut self.agents));
        self.loads.retain(|backend, load| self.agents.speaks_for(load.agent(), backend));
        (self.silence_ms, self.smoothing_ms) = (feedback.silence_ms.into(), feedback.smoothing_ms.into());
    }

    /// Goes on where a predecessor of this process was with each agent's reports ([`Agents::remember_in`]).
    pub fn remember_in(&mut self, places: &'static [ReplayPlace<Writer>]) {
        self.agents.remember_in(places);
    }

    /// Notes what the wall clock says, microseconds since 1970: an agent that says that it started much later isn't believed.
    pub fn follow_clock(&mut self, wall_us: u64) {
        self.agents.wall_us = wall_us;
    }

    /// The agents whose clocks were found ahead since the last call, and where they were at their starts.
    pub fn take_ahead(&mut self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.agents.newly_ahead)
    }

    /// Takes a datagram. If it is accepted, the loads that it brought are known from now on, also those that don't count:
    /// [`ResourceManager::outcome`] tells.
    pub fn receive(&mut self, datagram: &[u8], now_ms: u64) -> Result<Report, ReportOutcome> {
        let (report, arrival) = self.agents.admit(datagram).map_err(outcome_of)?;
        if !plausible::is_plausible(&report) {
            return Err(ReportOutcome::Absurd);
        }
        if !report.loads.iter().all(|load| self.agents.speaks_for(report.agent.as_str(), load.backend.as_str())) {
            return Err(ReportOutcome::NotItsBackend);
        }
        if arrival == Arrival::Late {
            return Err(ReportOutcome::Late);
        }
        for load in &report.loads {
            self.record(report.agent.as_str(), load, now_ms);
        }
        Ok(report)
    }

    fn record(&mut self, agent: &str, load: &Load, now_ms: u64) {
        let (silence_ms, smoothing_ms) = (self.silence_ms, self.smoothing_ms);
        let objection = self.ports.get(load.backend.as_str()).and_then(|port| objection(load, *port));
        let known = self.loads.get_mut(load.backend.as_str());
        match known.filter(|known| !known.is_silent(now_ms) && known.objection() == objection) {
            Some(known) => known.update(load, now_ms, silence_ms, smoothing_ms),
            // After a silence, or while reports were ignored, what was before says nothing, but for the workers.
            None => {
                let new = BackendLoad::new(agent, load, objection, now_ms, silence_ms);
                let silent = self.loads.remove(load.backend.as_str());
                self.loads.insert(load.backend.as_str().to_owned(), new.with_workers_of(silent));
            }
        }
    }

    /// What became of a report that was accepted: whether all of its loads count.
    pub fn outcome(&self, report: &Report) -> ReportOutcome {
        let known = report.loads.iter().filter_map(|load| self.load(load.backend.as_str()));
        match known.filter_map(BackendLoad::objection).next() {
            None => ReportOutcome::Accepted,
            Some(Objection::NeverListening(_)) => ReportOutcome::NeverListening,
            Some(Objection::OtherPort(_)) => ReportOutcome::OtherPort,
        }
    }

    /// What is known of a backend, old or not; `None` if nobody ever reported about it.
    pub fn load(&self, backend: &str) -> Option<&BackendLoad> {
        self.loads.get(backend)
    }

    /// Notes how many connections were in flight to a backend when its last report came.
    pub fn observe_connections(&mut self, backend: &str, connections: u64) {
        if let Some(load) = self.loads.get_mut(backend) {
            load.observe_connections(connections);
        }
    }
}

impl LoadSource for ResourceManager {
    fn expects(&self, key: &BackendKey) -> bool {
        self.agents.anybody_for(&key.backend)
    }

    fn agent_state(&self, key: &BackendKey, opened: i64, now_ms: u64) -> AgentState {
        match self.load(&key.backend) {
            Some(load) => load.agent_state(opened, now_ms),
            None if self.expects(key) => AgentState::Silent,
            None => AgentState::None,
        }
    }
}

fn outcome_of(refusal: Refusal) -> ReportOutcome {
    match refusal {
        Refusal::TooShort => ReportOutcome::TooShort,
        Refusal::TooLong => ReportOutcome::TooLong,
        Refusal::Version => ReportOutcome::Version,
        Refusal::UnknownAgent => ReportOutcome::UnknownAgent,
        Refusal::Forged => ReportOutcome::Forged,
        Refusal::Malformed => ReportOutcome::Malformed,
        Refusal::Stale => ReportOutcome::Stale,
        Refusal::Replayed => ReportOutcome::Replayed,
        Refusal::EpochAhead => ReportOutcome::EpochAhead,
    }
}

#[cfg(test)]
mod tests;
