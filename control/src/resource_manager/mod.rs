//! The resource manager (patent Fig. 4): "receives raw data from the back-end application servers", validates it, and keeps
//! each backend's load until it is out of date.
//!
//! ```text
//!  datagram --> agents (whose, authentic, new) --> plausible --> load (smoothed, ages) --> LoadRecord, at once
//!                    \                                 \             \--> master, some times a second
//!                     '----------- ReportOutcome -------'--> counted
//! ```
//!
//! Pure except for `socket` and `agent_check`: bytes and time in, outcomes and loads out. Refused data is counted and
//! changes nothing.

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
use shunt_report::{Arrival, LoadReport, ReportRefusal, ReportedLoad};
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::replay::ReplayPlace;
use shunt_shmlayout::report_outcome::ReportOutcome;

use load::{BackendLoad, objection};
use shunt_publish::agents::Agents;

/// A source of backends' load and willingness to accept connections. One file per implementation: Shunt's own agents send
/// reports (this one), HAProxy's are queried (`agent_check`).
pub trait LoadSource {
    /// Returns true if this source covers the backend of this service.
    fn expects(&self, key: &BackendKey) -> bool;

    /// The backend's state; [`AgentState::None`] if this source does not cover it. `opened` are the connections that
    /// switchers opened minus those closed since the last report.
    fn agent_state(&self, key: &BackendKey, opened: i64, now_ms: u64) -> AgentState;
}

/// State from all agents' reports.
pub struct ResourceManager {
    agents: Agents,
    /// By backend name.
    loads: BTreeMap<String, BackendLoad>,
    /// The configured ports, by backend name.
    ports: BTreeMap<String, u16>,
    silence_ms: u64,
    smoothing_ms: f64,
}

impl ResourceManager {
    /// Starts without loads.
    pub fn new(feedback: &Feedback, agents: Agents, ports: BTreeMap<String, u16>) -> Self {
        let (loads, silence_ms, smoothing_ms) = (BTreeMap::new(), 0, 0.0);
        let mut manager = Self { agents: Agents::default(), loads, ports: BTreeMap::new(), silence_ms, smoothing_ms };
        manager.configure(feedback, agents, ports);
        manager
    }

    /// Applies a configuration. Loads of backends whose agent is unchanged are kept, and that agent's earlier reports still
    /// cannot be replayed.
    pub fn configure(&mut self, feedback: &Feedback, agents: Agents, ports: BTreeMap<String, u16>) {
        self.ports = ports;
        self.agents = agents.after(std::mem::take(&mut self.agents));
        self.loads.retain(|backend, load| self.agents.speaks_for(load.agent(), backend));
        (self.silence_ms, self.smoothing_ms) = (feedback.silence_ms.into(), feedback.smoothing_ms.into());
    }

    /// Resumes a predecessor's replay windows ([`Agents::remember_in`]).
    pub fn remember_in(&mut self, places: &'static [ReplayPlace<Writer>]) {
        self.agents.remember_in(places);
    }

    /// Sets the wall clock, microseconds since 1970: an agent with a much later start time is refused.
    pub fn follow_clock(&mut self, wall_us: u64) {
        self.agents.wall_us = wall_us;
    }

    /// Agents newly found with a clock ahead since the last call, and their start times.
    pub fn take_ahead(&mut self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.agents.newly_ahead)
    }

    /// Handles a datagram. If it is accepted, its loads are recorded, including ignored ones: see
    /// [`ResourceManager::outcome`].
    pub fn receive(&mut self, datagram: &[u8], now_ms: u64) -> Result<LoadReport, ReportOutcome> {
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

    fn record(&mut self, agent: &str, load: &ReportedLoad, now_ms: u64) {
        let (silence_ms, smoothing_ms) = (self.silence_ms, self.smoothing_ms);
        let objection = self.ports.get(load.backend.as_str()).and_then(|port| objection(load, *port));
        let known = self.loads.get_mut(load.backend.as_str());
        match known.filter(|known| !known.is_silent(now_ms) && known.objection() == objection) {
            Some(known) => known.update(load, now_ms, silence_ms, smoothing_ms),
            // After a silence, or while reports were ignored, earlier values are obsolete, except for the workers.
            None => {
                let new = BackendLoad::new(agent, load, objection, now_ms, silence_ms);
                let silent = self.loads.remove(load.backend.as_str());
                self.loads.insert(load.backend.as_str().to_owned(), new.with_workers_of(silent));
            }
        }
    }

    /// The outcome of an accepted report: whether all its loads count.
    pub fn outcome(&self, report: &LoadReport) -> ReportOutcome {
        let known = report.loads.iter().filter_map(|load| self.load(load.backend.as_str()));
        match known.filter_map(BackendLoad::objection).next() {
            None => ReportOutcome::Accepted,
            Some(Objection::NeverListening(_)) => ReportOutcome::NeverListening,
            Some(Objection::OtherPort(_)) => ReportOutcome::OtherPort,
        }
    }

    /// A backend's load, even if out of date; `None` before its first report.
    pub fn load(&self, backend: &str) -> Option<&BackendLoad> {
        self.loads.get(backend)
    }

    /// Records the connections in flight to a backend at its last report.
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

fn outcome_of(refusal: ReportRefusal) -> ReportOutcome {
    match refusal {
        ReportRefusal::TooShort => ReportOutcome::TooShort,
        ReportRefusal::TooLong => ReportOutcome::TooLong,
        ReportRefusal::Version => ReportOutcome::Version,
        ReportRefusal::UnknownAgent => ReportOutcome::UnknownAgent,
        ReportRefusal::Forged => ReportOutcome::Forged,
        ReportRefusal::Malformed => ReportOutcome::Malformed,
        ReportRefusal::Stale => ReportOutcome::Stale,
        ReportRefusal::Replayed => ReportOutcome::Replayed,
        ReportRefusal::EpochAhead => ReportOutcome::EpochAhead,
    }
}

#[cfg(test)]
mod tests;
