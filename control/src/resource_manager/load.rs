//! The load of one backend: its last report, and the smoothed values that the master compares.

use std::num::NonZeroU32;

use shunt_report::{Listening, ReportedLoad, ServerState};
use shunt_shmlayout::loads::LoadRecord;

use super::smoothing::Smoothed;
use super::workers::Workers;
use crate::master::feedback::{AgentState, Measures, Objection};

/// Too low: connections that begin or end during a report count as foreign load. Too high: switchers learn late of load
/// that arrives by another path.
const FOREIGN_SMOOTHING_MS: f64 = 500.0;

/// One backend's load.
#[derive(Clone, Debug)]
pub struct BackendLoad {
    agent: String,
    last: ReportedLoad,
    objection: Option<Objection>,
    reported_ms: u64,
    expires_ms: u64,
    execution_us: Smoothed,
    cpu_permille: Smoothed,
    workers: Workers,
    /// Requests in flight minus connections in flight over all switchers.
    foreign: Smoothed,
    /// Since when it has reported no work.
    idle_since_ms: Option<u64>,
    /// Its reported execution time has expired.
    is_rested: bool,
}

impl BackendLoad {
    /// Starts from a first report, whose numbers count unless there is an objection.
    pub fn new(agent: &str, load: &ReportedLoad, objection: Option<Objection>, now_ms: u64, silence_ms: u64) -> Self {
        let mut new = Self {
            agent: agent.to_owned(),
            last: load.clone(),
            objection,
            reported_ms: now_ms,
            expires_ms: 0,
            execution_us: Smoothed::default(),
            cpu_permille: Smoothed::default(),
            workers: Workers::default(),
            foreign: Smoothed::default(),
            idle_since_ms: None,
            is_rested: false,
        };
        new.update(load, now_ms, silence_ms, 0.0);
        new
    }

    /// Keeps the previous estimate of its workers.
    pub fn with_workers_of(self, silent: Option<Self>) -> Self {
        let workers = silent.map_or(self.workers, |silent| silent.workers);
        Self { workers, ..self }
    }

    /// Adds a further report with the same objection.
    pub fn update(&mut self, load: &ReportedLoad, now_ms: u64, silence_ms: u64, smoothing_ms: f64) {
        self.execution_us.add(load.execution_us.map(f64::from), now_ms, smoothing_ms);
        self.cpu_permille.add(load.cpu_permille.map(f64::from), now_ms, smoothing_ms);
        if let (None, Some((in_flight, busy_milli))) = (self.objection, load.in_flight.zip(load.busy_milli)) {
            self.workers.learn(in_flight.into(), f64::from(busy_milli) / 1000.0, now_ms);
        }
        let is_idle = load.execution_us.is_none() && load.in_flight.or(load.clients) == Some(0);
        self.idle_since_ms = is_idle.then(|| self.idle_since_ms.unwrap_or(now_ms));
        // A backend that was slow and gets no requests would never show that it recovered: its execution time is discarded,
        // and it is tried again as an average one.
        if self.idle_since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= silence_ms)
            && self.execution_us.value().is_some()
        {
            (self.execution_us, self.is_rested) = (Smoothed::default(), true);
        }
        self.is_rested &= self.execution_us.value().is_none();
        self.last = load.clone();
        (self.reported_ms, self.expires_ms) = (now_ms, now_ms + silence_ms);
    }

    /// Records the connections in flight to it over all switchers at the last report. The difference is the server's other
    /// work. It is smoothed: a report is some milliseconds old, and what began and ended since would count as foreign load,
    /// most for the fastest backends.
    pub fn observe_connections(&mut self, connections: u64) {
        let foreign = self.last.in_flight.map(|in_flight| f64::from(in_flight) - connections as f64);
        self.foreign.add(foreign, self.reported_ms, FOREIGN_SMOOTHING_MS);
    }

    /// The agent that sent the report.
    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// The resulting agent state: whether it accepts connections, and its load. `opened` is as in [`Self::measures`].
    pub fn agent_state(&self, opened: i64, now_ms: u64) -> AgentState {
        match self.last.state {
            _ if self.is_silent(now_ms) => AgentState::Silent,
            ServerState::Drain | ServerState::Down => AgentState::Declines,
            ServerState::Up => self.objection.map_or(AgentState::Takes(self.measures(opened)), AgentState::Ignored),
        }
    }

    /// Why its numbers are ignored, if they are.
    pub fn objection(&self) -> Option<Objection> {
        self.objection
    }

    /// Returns true if the last report is out of date.
    pub fn is_silent(&self, now_ms: u64) -> bool {
        now_ms >= self.expires_ms
    }

    /// Time of the last report.
    pub fn reported_ms(&self) -> u64 {
        self.reported_ms
    }

    /// What the master compares: requests in flight, or clients if the server does not report requests, plus the
    /// connections that switchers opened minus those closed since the report; the others smoothed.
    pub fn measures(&self, opened: i64) -> Measures {
        if self.objection.is_some() {
            return Measures::default();
        }
        let reported = self.last.in_flight.or(self.last.clients);
        Measures {
            in_flight: reported.map(|reported| i64::from(reported).saturating_add(opened).max(0) as f64),
            execution_us: self.execution_us.value(),
            cpu_permille: self.cpu_permille.value(),
            is_rested: self.is_rested,
        }
    }

    /// The record for switchers and `shunt`, with the reported or estimated workers. `connections` are those in flight to
    /// it now, over all switchers.
    pub fn record(&self, connections: u64) -> LoadRecord {
        let last = &self.last;
        let flag = |said: bool, flag: u32| if said { flag } else { 0 };
        let small = |value: Option<f64>| value.map_or(0, |value| value as u32); // saturates
        let (counts, learnt) = (self.objection.is_none(), self.workers.number());
        LoadRecord {
            in_flight: last.in_flight.unwrap_or(0),
            connections: u32::try_from(connections).unwrap_or(u32::MAX),
            execution_us: small(self.measures(0).execution_us),
            clients: last.clients.unwrap_or(0),
            flags: flag(counts && last.in_flight.is_some(), LoadRecord::IN_FLIGHT)
                | flag(matches!(self.objection, Some(Objection::NeverListening(_))), LoadRecord::NEVER_LISTENING)
                | flag(matches!(self.objection, Some(Objection::OtherPort(_))), LoadRecord::OTHER_PORT)
                | flag(last.clients.is_some(), LoadRecord::CLIENTS)
                | flag(last.cpu_permille.is_some(), LoadRecord::CPU)
                | flag(last.memory_permille.is_some(), LoadRecord::MEMORY)
                | flag(last.requests_per_s_milli.is_some(), LoadRecord::REQUESTS)
                | flag(counts && last.workers.is_none() && learnt.is_some(), LoadRecord::WORKERS_LEARNT)
                | flag(last.state == ServerState::Drain, LoadRecord::DRAIN)
                | flag(last.state == ServerState::Down, LoadRecord::DOWN),
            score: small(self.measures(0).best().map(|measure| self.measures(0).load(measure, 1.0))),
            reported_ms: self.reported_ms,
            expires_ms: self.expires_ms,
            requests_per_s_milli: last.requests_per_s_milli.unwrap_or(0),
            cpu_permille: last.cpu_permille.unwrap_or(0),
            memory_permille: last.memory_permille.unwrap_or(0),
            foreign: small(self.foreign.value()),
            workers: last.workers.map(NonZeroU32::get).or(learnt).filter(|_| counts).unwrap_or(0),
            ..LoadRecord::default()
        }
    }
}

/// Why a load is not trusted, where `port` is the backend's by configuration. A report about another port would show no
/// clients and attract all of them.
pub fn objection(load: &ReportedLoad, port: u16) -> Option<Objection> {
    match load.listening {
        Listening::Unobserved => None,
        _ if load.port != port => Some(Objection::OtherPort(load.port)),
        Listening::Never => Some(Objection::NeverListening(load.port)),
        Listening::Yes | Listening::NoLonger => None,
    }
}
