//! Load feedback in the main loop: reports are written to shared memory as they arrive; several times a second the master
//! computes factors from them and, if those changed, slots.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use log::{info, warn};
use shunt_config::{Algorithm, Config};
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::address::{BackendId, ServiceId};
use shunt_shmlayout::loads::{LoadRecord, Loads};
use shunt_shmlayout::record::Counter;
use shunt_shmlayout::regions::{ControlRegion, connections_in_flight};
use shunt_shmlayout::report_outcome::ReportOutcome;

use super::Control;
use super::cause::Cause;
use super::cost::Cost;
use super::outside::Outputs;
use crate::clock::{Now, WallClock};
use crate::health::{BackendKey, Health};
use crate::master::feedback::{AgentState, FeedbackMember, Objection, Why, step};
use crate::resource_manager::agent_check::{AgentChecks, Outcome};
use crate::resource_manager::watch::Watch;
use crate::resource_manager::{LoadSource, ResourceManager};
use shunt_process::duration;
use shunt_protocol::admin::ReportPath;
use shunt_publish::agents::Agents;
use shunt_publish::service::{NEUTRAL_PERMILLE, Service};
use shunt_publish::table::Table;

/// A longer pause, as of a stopped process, counts as this long.
const LONGEST_STEP_MS: u64 = 1000;

/// State of load feedback.
pub(super) struct Feedback {
    manager: ResourceManager,
    watch: Watch,
    agent_checks: AgentChecks,
    ids: HashMap<String, BackendId>,
    /// Configured agents, by backend name.
    workers: HashMap<String, u32>,
    pools: BTreeMap<ServiceId, Pool>,
    slew_per_s: f64,
    last_ms: u64,
    /// CPU cost of steps and of the publications that follow.
    pub cost: Cost,
    /// Reference for agents' start times.
    clock: WallClock,
}

/// A service with load feedback.
struct Pool {
    algorithm: Algorithm,
    /// By member: its identity and its feedback state.
    members: Vec<(BackendKey, BackendId, FeedbackMember)>,
}

impl Feedback {
    /// Empty until `configure`.
    pub fn new(now: Now) -> Self {
        let manager = ResourceManager::new(&shunt_config::Feedback::default(), Agents::default(), BTreeMap::new());
        Self {
            manager,
            watch: Watch::default(),
            agent_checks: AgentChecks::default(),
            ids: HashMap::new(),
            workers: HashMap::new(),
            pools: BTreeMap::new(),
            slew_per_s: 0.0,
            last_ms: 0,
            cost: Cost::default(),
            clock: WallClock::new(now),
        }
    }

    /// The problems of load reporting.
    pub fn report_path(&self, not_listening: Option<&(SocketAddr, String)>, now_ms: u64) -> ReportPath {
        let not_listening = not_listening.map(|(listen, why)| (listen.to_string(), why.clone()));
        ReportPath { not_listening, silent: self.watch.silent(now_ms), refused: self.watch.refused(now_ms) }
    }

    /// Returns true if reports are expected: weights may change in any turn.
    pub fn is_busy(&self) -> bool {
        !self.pools.is_empty()
    }

    /// Applies a configuration and its table. Resets the feedback of services without reports, whose agents left the
    /// configuration or whose keys cannot be read.
    pub fn configure(
        &mut self,
        config: &Config,
        table: &mut Table,
        agents: Agents,
        region: &ControlRegion<Writer>,
        now: Now,
        outputs: &mut Outputs,
    ) {
        let feedback = &config.feedback;
        let backends = config.services.iter().flat_map(|service| &service.backends);
        let ports = backends.map(|backend| (backend.name.clone(), backend.address.port())).collect();
        self.manager.configure(feedback, agents, ports);
        self.manager.remember_in(region.replay);
        self.watch.configure(feedback, now.monotonic_ms);
        outputs.listen = Some(feedback.listen);
        self.slew_per_s = f64::from(feedback.slew_permille_per_s) / 1000.0;
        outputs.questions = Some(self.agent_checks.configure(config));
        let configured = table.backends().filter(|(_, backend)| !backend.removed);
        self.ids = configured.map(|(id, backend)| (backend.name.clone(), id)).collect();
        let backends = config.services.iter().flat_map(|service| &service.backends);
        self.workers = backends.filter_map(|backend| Some((backend.name.clone(), backend.workers?))).collect();
        let before = std::mem::take(&mut self.pools);
        self.pools = table
            .services()
            .filter_map(|(id, service)| Some((id, self.pool(table, service, before.get(&id))?)))
            .collect();
        let ids: Vec<ServiceId> = table.services().map(|(id, _)| id).collect();
        ids.iter().filter(|id| !self.pools.contains_key(id)).for_each(|id| table.forget_feedback(*id));
        self.write_loads(region.loads);
    }

    /// `None` if no agent is configured for the service.
    fn pool(&self, table: &Table, service: &Service, before: Option<&Pool>) -> Option<Pool> {
        let known = |backend: BackendId| {
            let members = before.into_iter().flat_map(|pool| &pool.members);
            members.clone().find(|(_, id, _)| *id == backend).map(|(.., member)| *member)
        };
        let member = |member: &shunt_publish::service::Member| {
            let name = table.backend(member.backend)?.name.clone();
            let factor = f64::from(member.factor_permille) / f64::from(NEUTRAL_PERMILLE);
            let learnt = known(member.backend).map_or(factor, |known| known.learnt);
            let (agent_state, declined) = (AgentState::None, member.declined);
            let why = known(member.backend).map_or(Why::default(), |known| known.why);
            let made =
                FeedbackMember { weight: member.weight, in_service: true, agent_state, learnt, factor, declined, why };
            Some((BackendKey { service: service.name.clone(), backend: name }, member.backend, made))
        };
        let members: Vec<_> = service.members.iter().filter_map(member).collect();
        let anybody = members.iter().any(|(key, ..)| self.sources().iter().any(|source| source.expects(key)));
        anybody.then_some(Pool { algorithm: service.algorithm, members })
    }

    /// Rewrites all records. Those of backends without reports contain only the workers; an id may have been reused.
    fn write_loads(&self, loads: Loads<Writer>) {
        let names: HashMap<BackendId, &str> = self.ids.iter().map(|(name, id)| (*id, name.as_str())).collect();
        for id in (0..loads.0.len()).map(|id| BackendId(id as u16)) {
            let connections = loads.get(id).connections.into();
            let record = names.get(&id).map(|name| record(&self.manager, &self.workers, name, connections));
            loads.set(id, &record.unwrap_or_default());
        }
    }

    /// The reason for a backend's weight in a service; `None` if no agent is configured for it.
    pub fn why(&self, backend: BackendId) -> impl Iterator<Item = (&str, Why)> {
        let members = self.pools.values().flat_map(|pool| &pool.members);
        members.filter(move |(_, id, _)| *id == backend).map(|(key, _, member)| (key.service.as_str(), member.why))
    }

    /// A member's agent state. `opened` are the connections opened minus those closed since its report.
    fn agent_state(&self, key: &BackendKey, opened: i64, now_ms: u64) -> AgentState {
        let states = self.sources().map(|source| source.agent_state(key, opened, now_ms));
        states.into_iter().fold(AgentState::None, AgentState::and)
    }

    /// All load sources. On a tie the first one wins.
    fn sources(&self) -> [&dyn LoadSource; 2] {
        [&self.manager, &self.agent_checks]
    }

    /// Runs one step of every pool; `opened` returns connections opened minus those closed since a backend's report.
    /// Returns true if a publication is needed.
    fn step(&mut self, table: &mut Table, opened: impl Fn(BackendId) -> i64, now_ms: u64) -> bool {
        let elapsed_ms = (now_ms - self.last_ms).min(LONGEST_STEP_MS);
        self.last_ms = now_ms;
        let mut changed = false;
        for (service, mut pool) in std::mem::take(&mut self.pools) {
            let mut members: Vec<FeedbackMember> = Vec::with_capacity(pool.members.len());
            for (key, id, member) in &pool.members {
                let in_service = table.health(service, *id) == Health::Up && !table.is_drained(*id);
                members.push(FeedbackMember {
                    in_service,
                    agent_state: self.agent_state(key, opened(*id), now_ms),
                    ..*member
                });
            }
            step(pool.algorithm, &mut members, elapsed_ms as f64 / 1000.0, self.slew_per_s);
            for ((key, _, before), after) in pool.members.iter_mut().zip(members) {
                tell(key, before.why, after.why);
                *before = after;
            }
            let made = pool.members.iter().map(|(_, id, member)| (*id, permille(member.factor), member.declined));
            changed |= table.set_feedback(service, &made.collect::<Vec<_>>());
            self.pools.insert(service, pool);
        }
        changed
    }
}

impl Control {
    /// Sets the agents whose reports are accepted.
    pub(super) fn configure_feedback(&mut self, agents: Agents, now: Now, outputs: &mut Outputs) {
        self.feedback.configure(&self.config, &mut self.table, agents, &self.memory.control, now, outputs);
    }

    /// Handles a datagram. Switchers see an accepted report at once.
    pub(super) fn take_report(&mut self, source: IpAddr, datagram: &[u8], now: Now) {
        let region = self.memory.control;
        let Feedback { manager, watch, ids, workers, clock, .. } = &mut self.feedback;
        manager.follow_clock(clock.latest_us(now));
        let outcome = match manager.receive(datagram, now.monotonic_ms) {
            Ok(report) => {
                for load in &report.loads {
                    let name = load.backend.as_str();
                    if let Some(id) = ids.get(name) {
                        let counts = self.memory.switchers.iter().map(|switcher| switcher.in_flight);
                        let connections = connections_in_flight(counts, *id);
                        manager.observe_connections(name, connections);
                        region.loads.set(*id, &record(manager, workers, name, connections));
                    }
                }
                manager.outcome(&report)
            }
            Err(outcome) => outcome,
        };
        count(region.reports, outcome);
        watch.observe(source, datagram, outcome, now.monotonic_ms);
        for (agent, epoch_us) in manager.take_ahead() {
            let ahead_ms = (epoch_us / 1000).saturating_sub(now.wall_ms());
            warn!(
                "agent {agent}: its clock was {} ahead of this machine's when it started, its reports are refused; set \
                 the wrong one of both, then start the agent again",
                duration(ahead_ms)
            );
        }
    }

    pub(super) fn record_answer(&mut self, outcome: Outcome, now: Now) {
        if let Some(outcome) = self.feedback.agent_checks.record(outcome, now.monotonic_ms) {
            count(self.memory.control.reports, outcome);
        }
    }

    /// Runs the master when a step is due.
    pub(super) fn follow_loads(&mut self, now_ms: u64) {
        if now_ms < self.feedback.last_ms + self.feedback.cost.pause_ms() {
            return;
        }
        self.feedback.cost.has_stepped();
        let (switchers, loads) = (&self.memory.switchers, self.memory.control.loads);
        let opened = |id| {
            let now = connections_in_flight(switchers.iter().map(|switcher| switcher.in_flight), id);
            (now as i64).saturating_sub(loads.get(id).connections.into())
        };
        if self.feedback.step(&mut self.table, opened, now_ms) {
            self.publication.mark(Cause::Feedback);
        }
    }
}

/// A backend's load record for switchers. `connections` were in flight to it at its last report.
fn record(manager: &ResourceManager, workers: &HashMap<String, u32>, name: &str, connections: u64) -> LoadRecord {
    let mut record = manager.load(name).map(|load| load.record(connections)).unwrap_or_default();
    if let Some(workers) = workers.get(name) {
        record.workers = *workers;
        record.flags &= !LoadRecord::WORKERS_LEARNT;
    }
    record
}

fn count(counters: &[Counter<Writer>], outcome: ReportOutcome) {
    if let Some(counter) = counters.get(outcome as usize) {
        counter.add(1);
    }
}

fn permille(factor: f64) -> u16 {
    // Never 0, which means "declined" in the table; a cast saturates.
    ((factor * f64::from(NEUTRAL_PERMILLE)).round() as u16).max(1)
}

/// Logs when a backend falls silent or declines, and when it recovers.
fn tell(key: &BackendKey, before: Why, after: Why) {
    let BackendKey { service, backend } = key;
    let noted = |why: Why| matches!(why, Why::Silent | Why::Declined | Why::Ignored | Why::ReportIgnored(_));
    // Right after the start no agent has had time to report.
    if before == after || before == Why::default() && after == Why::Silent || !noted(before) && !noted(after) {
        return;
    }
    match after {
        Why::Silent => {
            warn!("backend {backend} of service {service}: no report, its load is now unknown")
        }
        Why::ReportIgnored(Objection::NeverListening(port)) => warn!(
            "backend {backend} of service {service}: its agent has never observed a listener on port {port}, so its load \
             is ignored; correct backend.port there, or write listener = \"elsewhere\""
        ),
        Why::ReportIgnored(Objection::OtherPort(port)) => warn!(
            "backend {backend} of service {service}: its agent watches port {port}, which isn't the backend's, so its \
             load is ignored; correct backend.port there, or write listener = \"elsewhere\""
        ),
        Why::Declined => warn!("backend {backend} of service {service} declines: it gets no new connections"),
        Why::Ignored => warn!("backend {backend} of service {service} declines, as most do: ignored"),
        _ => info!("backend {backend} of service {service} reports and takes connections"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_publish::testing::{World, config, region};

    #[test]
    fn nobody_stays_out_by_the_last_word_of_an_agent_that_left_the_configuration() {
        let (region, pool) = (region(), &[(1, "nat", &[(1, 1), (2, 1)][..])]);
        let mut world = World::new(region, vec![]);
        world.apply(pool);
        let (service, b1, b2) = (world.service(1), world.backend(1), world.backend(2));
        world.table.set_feedback(service, &[(b1, 1000, true), (b2, 3000, false)]);
        let factors = |generation: &shunt_shmlayout::config_table::Generation| {
            let record = generation.service(service).unwrap();
            generation.members_of(&record).map(|member| member.factor_permille).collect::<Vec<_>>()
        };
        assert_eq!(factors(&world.publish().unwrap()), [0, 3000]);
        let mut restarted = World::new(region, vec![]);
        assert!(restarted.table.services().any(|(_, it)| it.member(b1).is_some_and(|member| member.declined)));
        for world in [&mut restarted, &mut world] {
            let (now, mut outputs) = (Now::default(), Outputs::default());
            let mut feedback = Feedback::new(now);
            feedback.configure(&config(pool), &mut world.table, Agents::default(), &region, now, &mut outputs);
            assert_eq!(factors(&world.publish().unwrap()), [1000, 1000]);
        }
    }
}
