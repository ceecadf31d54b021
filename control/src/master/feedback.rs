//! Distribution by feedback: computes each backend's weight factor and its reason from the loads of a service's backends.
//! Plain values in and out; runs several times a second for every service with load feedback.

use std::fmt;

use shunt_config::Algorithm;

use super::even::{self, Loaded};

/// Smoothed measures of a backend's load.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measures {
    /// Requests (or clients) in flight.
    pub in_flight: Option<f64>,
    /// Execution time, microseconds.
    pub execution_us: Option<f64>,
    /// CPU use, thousandths.
    pub cpu_permille: Option<f64>,
    /// Idle for so long that `execution_us` was discarded: the mean of the others is used.
    pub is_rested: bool,
}

/// A measure of load, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Expected latency of one more request: requests in flight times execution time.
    Wait,
    /// Requests in flight.
    InFlight,
    /// CPU use.
    Cpu,
}

impl Measures {
    const ALL: [Measure; 3] = [Measure::Wait, Measure::InFlight, Measure::Cpu];

    fn has(&self, measure: Measure) -> bool {
        match measure {
            Measure::Wait => self.in_flight.is_some() && self.execution_us.is_some(),
            Measure::InFlight => self.in_flight.is_some(),
            Measure::Cpu => self.cpu_permille.is_some(),
        }
    }

    /// The best available measure.
    pub fn best(&self) -> Option<Measure> {
        Self::ALL.into_iter().find(|measure| self.has(*measure))
    }

    /// Replaces a discarded execution time by the mean of the others.
    fn with_usual(self, execution_us: Option<f64>) -> Self {
        let usual = execution_us.filter(|_| self.is_rested);
        Self { execution_us: self.execution_us.or(usual), ..self }
    }

    /// The best measure that all of them have.
    fn common<'m>(all: impl Iterator<Item = &'m Measures> + Clone) -> Option<Measure> {
        Self::ALL.into_iter().find(|measure| all.clone().all(|measures| measures.has(*measure)))
    }

    /// The load relative to the weight: a backend of twice the weight may have twice as much in flight.
    pub fn load(&self, measure: Measure, weight: f64) -> f64 {
        // Includes the next request. Otherwise an idle backend would be infinitely better than any other.
        let in_flight = (self.in_flight.unwrap_or(0.0) + 1.0) / weight.max(1.0);
        match measure {
            Measure::Wait => in_flight * self.execution_us.unwrap_or(0.0),
            Measure::InFlight => in_flight,
            Measure::Cpu => self.cpu_permille.unwrap_or(0.0) + 1.0,
        }
    }
}

/// Why an agent's load is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objection {
    /// The agent never observed a listener on this port: the backend would always appear least loaded.
    NeverListening(u16),
    /// The agent observes this port, which is not the backend's.
    OtherPort(u16),
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverListening(port) => write!(f, "no process has ever listened on port {port}"),
            Self::OtherPort(port) => write!(f, "agent watches port {port}"),
        }
    }
}

/// A backend's state as its agents report it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum AgentState {
    /// No agent is configured for it.
    #[default]
    None,
    /// An agent is configured, but silent.
    Silent,
    /// An agent reports, but the report is ignored.
    Ignored(Objection),
    /// It accepts connections; its load, as far as known.
    Takes(Measures),
    /// It takes this share of its weight (from HAProxy's agents), hundredths.
    Percent(u16),
    /// It declines new connections or cannot serve.
    Declines,
}

impl AgentState {
    /// Combines two sources: declining in either one wins, and a percentage overrides a load.
    pub fn and(self, other: Self) -> Self {
        let either = |wanted: fn(&Self) -> bool| [self, other].into_iter().find(wanted);
        either(|agent_state| *agent_state == Self::Declines)
            .or(either(|agent_state| matches!(agent_state, Self::Percent(_))))
            .or(either(|agent_state| matches!(agent_state, Self::Takes(_))))
            .or(either(|agent_state| matches!(agent_state, Self::Ignored(_))))
            .or(either(|agent_state| *agent_state == Self::Silent))
            .unwrap_or(Self::None)
    }
}

/// A backend of a service, with its feedback state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeedbackMember {
    /// The configured weight.
    pub weight: u16,
    /// Accepts new connections, by health checks and operator.
    pub in_service: bool,
    /// Its agent state.
    pub agent_state: AgentState,
    /// The weight factor that `even` learnt.
    pub learnt: f64,
    /// The factor of its weight.
    pub factor: f64,
    /// Gets no new connections because it declines them.
    pub declined: bool,
    /// The reason.
    pub why: Why,
}

/// The reason for a weight.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Why {
    /// The algorithm ignores reports.
    #[default]
    Configured,
    /// The algorithm uses reports, but no agent is configured.
    NoAgent,
    /// No current report.
    Silent,
    /// The report is ignored.
    ReportIgnored(Objection),
    /// Its load is the only known one.
    Alone,
    /// It is down or drained; its load is ignored.
    OutOfService,
    /// Its load relative to the pool's median.
    Even(f64),
    /// Its agent sets the weight.
    Percent(u16),
    /// It declines.
    Declined,
    /// It declines, as do more than half of those in service: all are then used, even if overloaded.
    Ignored,
    /// Switchers choose by current loads; the weight stays.
    AtEachConnection,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configured => f.write_str("static"),
            Self::NoAgent => f.write_str("no agent"),
            Self::Silent => f.write_str("silent"),
            Self::ReportIgnored(objection) => write!(f, "report ignored: {objection}"),
            Self::Alone => f.write_str("even: alone"),
            Self::OutOfService => f.write_str("out of service"),
            Self::Even(load) => write!(f, "even: {load:.2} load"),
            Self::Percent(percent) => write!(f, "agent says {percent}%"),
            Self::Declined => f.write_str("declines"),
            Self::Ignored => f.write_str("ignored: most decline"),
            Self::AtEachConnection => f.write_str("load at each connection"),
        }
    }
}

/// Runs one step of a service's pool.
pub fn step(algorithm: Algorithm, pool: &mut [FeedbackMember], elapsed_s: f64, slew_per_s: f64) {
    heed_opinions(pool);
    for member in pool.iter_mut() {
        let wanted = match member.agent_state {
            AgentState::Percent(percent) => f64::from(percent) / 100.0,
            AgentState::Takes(_) if algorithm == Algorithm::Even => {
                // Replaced below if it takes part.
                member.why = Why::OutOfService;
                continue;
            }
            // Its share is kept for its return.
            AgentState::Declines => continue,
            _ => 1.0,
        };
        member.factor = even::step_towards(member.factor, wanted, elapsed_s * slew_per_s);
        member.learnt = member.factor;
        member.why = explain(algorithm, member.agent_state);
    }
    if algorithm == Algorithm::Even {
        equalise(pool, elapsed_s, slew_per_s);
    }
}

/// Declined members get nothing, unless more than half of the pool declines. Members out of service do not count: otherwise
/// the last healthy one could decline all clients.
fn heed_opinions(pool: &mut [FeedbackMember]) {
    let in_service = pool.iter().filter(|member| member.in_service);
    let declining = in_service.clone().filter(|member| member.agent_state == AgentState::Declines).count();
    let heeded = 2 * declining <= in_service.count();
    for member in pool.iter_mut() {
        let declines = member.agent_state == AgentState::Declines;
        member.declined = declines && heeded;
        if declines {
            member.why = if heeded { Why::Declined } else { Why::Ignored };
        }
    }
}

fn explain(algorithm: Algorithm, agent_state: AgentState) -> Why {
    match (algorithm, agent_state) {
        (_, AgentState::Percent(percent)) => Why::Percent(percent),
        (Algorithm::Static | Algorithm::SourceHash | Algorithm::LeastConnections, _) => Why::Configured,
        (_, AgentState::Silent) => Why::Silent,
        (_, AgentState::Ignored(objection)) => Why::ReportIgnored(objection),
        (_, AgentState::None) => Why::NoAgent,
        (Algorithm::Lightest | Algorithm::Latency, _) => Why::AtEachConnection,
        (Algorithm::Even, _) => Why::OutOfService,
    }
}

/// Equalises the known loads of members that accept connections.
fn equalise(pool: &mut [FeedbackMember], elapsed_s: f64, slew_per_s: f64) {
    let own = |member: &FeedbackMember| match member.agent_state {
        AgentState::Takes(measures) if member.in_service && member.weight > 0 => Some(measures),
        _ => None,
    };
    let usual_us = mean(pool.iter().filter_map(own).filter_map(|measures| measures.execution_us));
    let known = |member: &FeedbackMember| own(member).map(|measures| measures.with_usual(usual_us));
    let measures: Vec<Measures> = pool.iter().filter_map(known).collect();
    let Some(measure) = Measures::common(measures.iter()) else { return };
    let loaded = pool.iter().filter_map(|member| {
        let (weight, learnt, factor) = (f64::from(member.weight), member.learnt, member.factor);
        known(member).map(|measures| Loaded { weight, learnt, factor, load: measures.load(measure, weight) })
    });
    let mut loaded: Vec<Loaded> = loaded.collect();
    let middle = even::adjust(&mut loaded, elapsed_s, slew_per_s);
    let alone = loaded.len() == 1;
    for (member, loaded) in pool.iter_mut().filter(|member| known(member).is_some()).zip(loaded) {
        let load = loaded.load / middle;
        member.why = if alone { Why::Alone } else { Why::Even(load) };
        (member.learnt, member.factor) = (loaded.learnt, loaded.factor);
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(agent_state: AgentState) -> FeedbackMember {
        FeedbackMember {
            weight: 1,
            in_service: true,
            agent_state,
            learnt: 1.0,
            factor: 1.0,
            declined: false,
            why: Why::default(),
        }
    }

    fn loaded(in_flight: f64) -> AgentState {
        AgentState::Takes(Measures { in_flight: Some(in_flight), execution_us: Some(1000.0), ..Measures::default() })
    }

    fn declined(states: &[AgentState]) -> Vec<bool> {
        let mut pool: Vec<FeedbackMember> = states.iter().map(|agent_state| member(*agent_state)).collect();
        step(Algorithm::Static, &mut pool, 0.05, 2.0);
        pool.iter().map(|member| member.declined).collect()
    }

    #[test]
    fn half_of_a_pool_may_decline_and_more_are_ignored() {
        let (no, yes) = (AgentState::Declines, AgentState::Silent);
        assert_eq!(declined(&[no, yes]), [true, false]);
        assert_eq!(declined(&[no, no, yes, yes]), [true, true, false, false]);
        assert_eq!(declined(&[no, no, yes]), [false; 3]);
        assert_eq!(declined(&[no]), [false]);
    }

    #[test]
    fn the_last_one_in_service_is_not_sent_away() {
        let mut pool = [member(AgentState::Silent), member(AgentState::Silent), member(AgentState::Declines)];
        (pool[0].in_service, pool[1].in_service) = (false, false);
        step(Algorithm::Static, &mut pool, 0.05, 2.0);
        assert_eq!((pool[2].declined, pool[2].why), (false, Why::Ignored));
        pool[1].in_service = true;
        step(Algorithm::Static, &mut pool, 0.05, 2.0);
        assert_eq!((pool[2].declined, pool[2].why), (true, Why::Declined));
    }

    #[test]
    fn a_report_that_is_ignored_leads_to_the_configured_weight() {
        for objection in [Objection::NeverListening(8081), Objection::OtherPort(8081)] {
            let mut pool = [member(AgentState::Ignored(objection)), member(loaded(50.0)), member(loaded(50.0))];
            pool[0].factor = 8.0;
            (0..100).for_each(|_| step(Algorithm::Even, &mut pool, 0.05, 2.0));
            assert_eq!((pool[0].factor, pool[0].why), (1.0, Why::ReportIgnored(objection)));
            assert_eq!((pool[1].factor, pool[2].factor), (1.0, 1.0));
        }
    }

    #[test]
    fn only_even_moves_weights_by_load() {
        for (_, algorithm) in Algorithm::WORDS {
            let mut pool = [member(loaded(100.0)), member(loaded(1.0)), member(loaded(10.0))];
            step(algorithm, &mut pool, 0.05, 2.0);
            let moved = pool[0].factor < 1.0 && pool[1].factor > 1.0;
            assert_eq!(moved, algorithm == Algorithm::Even, "{algorithm:?}");
            assert_eq!(pool.iter().any(|member| member.factor != 1.0), moved);
        }
    }

    #[test]
    fn silence_leads_back_to_the_configured_weight_no_faster_than_the_limit() {
        let mut pool = [member(AgentState::Silent), member(loaded(3.0))];
        pool[0].factor = 0.25;
        step(Algorithm::Even, &mut pool, 0.1, 2.0);
        assert!((pool[0].factor - 0.3).abs() < 1e-9, "{}", pool[0].factor);
        (0..20).for_each(|_| step(Algorithm::Even, &mut pool, 0.1, 2.0));
        assert_eq!((pool[0].factor, pool[0].why), (1.0, Why::Silent));
        assert_eq!(pool[1].why, Why::Alone);
    }

    #[test]
    fn what_not_all_report_is_not_compared() {
        let cpu = Measures { cpu_permille: Some(900.0), ..Measures::default() };
        let both =
            Measures { in_flight: Some(1000.0), execution_us: Some(1.0), cpu_permille: Some(100.0), is_rested: false };
        let mut pool = [member(AgentState::Takes(cpu)), member(AgentState::Takes(both))];
        step(Algorithm::Even, &mut pool, 0.05, 2.0);
        assert!(pool[0].factor < 1.0 && pool[1].factor > 1.0, "{pool:?}");
        let mut nothing = [member(AgentState::Takes(cpu)), member(AgentState::Takes(Measures::default()))];
        step(Algorithm::Even, &mut nothing, 0.05, 2.0);
        assert_eq!((nothing[0].factor, nothing[1].factor), (1.0, 1.0));
    }

    #[test]
    fn one_that_has_rested_counts_as_the_mean_of_the_others() {
        let rested = Measures { in_flight: Some(4.0), is_rested: true, ..Measures::default() };
        let mut pool = [member(loaded(4.0)), member(AgentState::Takes(rested)), member(loaded(9.0))];
        step(Algorithm::Even, &mut pool, 0.05, 2.0);
        assert_eq!((pool[0].factor, pool[0].why), (pool[1].factor, pool[1].why));
        assert!(pool[1].factor > pool[2].factor, "{pool:?}");
        let mut all = [member(AgentState::Takes(rested)); 3];
        step(Algorithm::Even, &mut all, 0.05, 2.0);
        assert_eq!(all.map(|member| member.factor), [1.0; 3]);
    }

    #[test]
    fn an_agents_percentage_is_obeyed_whatever_the_algorithm() {
        for (_, algorithm) in Algorithm::WORDS {
            let mut pool = [member(AgentState::Percent(75)), member(AgentState::None)];
            (0..20).for_each(|_| step(algorithm, &mut pool, 0.05, 2.0));
            assert_eq!((pool[0].factor, pool[1].factor), (0.75, 1.0), "{algorithm:?}");
        }
    }

    #[test]
    fn of_two_sources_who_declines_does_and_silence_is_the_least() {
        let ignored = AgentState::Ignored(Objection::NeverListening(80));
        let all =
            [AgentState::Declines, AgentState::Percent(40), loaded(1.0), ignored, AgentState::Silent, AgentState::None];
        for (rank, agent_state) in all.into_iter().enumerate() {
            for weaker in &all[rank..] {
                assert_eq!((agent_state.and(*weaker), weaker.and(agent_state)), (agent_state, agent_state));
            }
        }
    }

    #[test]
    fn twice_the_weight_may_have_twice_the_load() {
        let mut pool = [member(loaded(9.0)), member(loaded(19.0))];
        pool[1].weight = 2;
        step(Algorithm::Even, &mut pool, 0.05, 2.0);
        assert_eq!((pool[0].factor, pool[1].factor), (1.0, 1.0));
    }

    #[test]
    fn who_is_out_of_service_keeps_what_was_learnt() {
        let mut pool = [member(loaded(0.0)), member(loaded(9.0)), member(loaded(9.0))];
        (pool[0].in_service, pool[0].learnt, pool[0].factor) = (false, 0.5, 0.5);
        step(Algorithm::Even, &mut pool, 0.05, 2.0);
        assert_eq!((pool[0].factor, pool[1].factor), (0.5, 1.0));
        assert_eq!((pool[0].why, pool[1].why), (Why::OutOfService, Why::Even(1.0)));
    }
}
