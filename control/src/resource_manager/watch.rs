//! What an operator should know about agents: silent agents and refused reports.

use std::collections::BTreeMap;
use std::net::IpAddr;

use log::warn;
use shunt_config::Feedback;
use shunt_report::claimed;
use shunt_shmlayout::report_outcome::ReportOutcome;

use shunt_protocol::admin::{RefusedReports, SilentAgent};

/// How long a refused report is shown: an agent sends at least one a second.
const RECENT_MS: u64 = 60_000;
/// Limit of remembered causes, since sources can be forged.
const MOST_CAUSES: usize = 16;
/// Minimum interval between log lines.
const LOG_PAUSE_MS: u64 = 1000;

/// Observes every report and its outcome.
#[derive(Default)]
pub struct Watch {
    silence_ms: u64,
    /// By name.
    agents: BTreeMap<String, Heard>,
    refused: BTreeMap<Cause, Refused>,
    log_again_ms: u64,
}

struct Heard {
    backends: Vec<String>,
    /// Time of its last report, or when control began to wait for it.
    since_ms: u64,
    has_reported: bool,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Cause {
    source: IpAddr,
    agent: Option<String>,
    reason: &'static str,
}

struct Refused {
    count: u64,
    last_ms: u64,
    log_again_ms: u64,
}

impl Watch {
    /// Expects reports from a configuration's agents. State of unchanged agents is kept.
    pub fn configure(&mut self, feedback: &Feedback, now_ms: u64) {
        self.silence_ms = feedback.silence_ms.into();
        if feedback.listen.is_none() {
            self.refused.clear(); // no reports are accepted any more
        }
        let mut before = std::mem::take(&mut self.agents);
        let agents = feedback.agents.iter().map(|agent| {
            let backends = agent.backends.clone();
            let heard = match before.remove(&agent.name) {
                Some(known) => Heard { backends, ..known },
                None => Heard { backends, since_ms: now_ms, has_reported: false },
            };
            (agent.name.clone(), heard)
        });
        self.agents = agents.collect();
    }

    /// Records a datagram's outcome.
    pub fn observe(&mut self, source: IpAddr, datagram: &[u8], outcome: ReportOutcome, now_ms: u64) {
        let agent = claimed(datagram).map(|name| name.to_string());
        if matches!(outcome, ReportOutcome::Accepted | ReportOutcome::NeverListening | ReportOutcome::OtherPort)
            && let Some(heard) = agent.as_ref().and_then(|agent| self.agents.get_mut(agent))
        {
            (heard.since_ms, heard.has_reported) = (now_ms, true);
        }
        match outcome {
            ReportOutcome::Accepted => self.refused.retain(|cause, _| cause.source != source || cause.agent != agent),
            // Networks duplicate and reorder datagrams.
            ReportOutcome::Late | ReportOutcome::Replayed => {}
            _ => self.refuse(Cause { source, agent, reason: outcome.name() }, outcome, now_ms),
        }
    }

    fn refuse(&mut self, cause: Cause, outcome: ReportOutcome, now_ms: u64) {
        self.refused.retain(|_, refused| now_ms.saturating_sub(refused.last_ms) < RECENT_MS);
        if self.refused.len() >= MOST_CAUSES && !self.refused.contains_key(&cause) {
            let oldest = self.refused.iter().min_by_key(|(_, refused)| refused.last_ms);
            let oldest = oldest.map(|(cause, _)| cause.clone());
            oldest.map(|oldest| self.refused.remove(&oldest));
        }
        let refused =
            self.refused.entry(cause.clone()).or_insert(Refused { count: 0, last_ms: now_ms, log_again_ms: now_ms });
        refused.count += 1;
        refused.last_ms = now_ms;
        if is_told_elsewhere(outcome) || now_ms < refused.log_again_ms.max(self.log_again_ms) {
            return;
        }
        (refused.log_again_ms, self.log_again_ms) = (now_ms + RECENT_MS, now_ms + LOG_PAUSE_MS);
        let agent = cause.agent.map(|agent| format!(" as agent {agent}")).unwrap_or_default();
        warn!("reports from {}{agent} are refused: {}: {}", cause.source, cause.reason, outcome.meaning());
    }

    /// Agents without a report for longer than `feedback.silence_ms`.
    pub fn silent(&self, now_ms: u64) -> Vec<SilentAgent> {
        let silent = self.agents.iter().map(|(name, heard)| SilentAgent {
            name: name.clone(),
            backends: heard.backends.clone(),
            age_ms: now_ms.saturating_sub(heard.since_ms),
            has_reported: heard.has_reported,
        });
        silent.filter(|agent| agent.age_ms >= self.silence_ms).collect()
    }

    /// Reports refused in the last minute.
    pub fn refused(&self, now_ms: u64) -> Vec<RefusedReports> {
        let refused = self.refused.iter().map(|(cause, refused)| RefusedReports {
            source: cause.source.to_string(),
            agent: cause.agent.clone(),
            reason: cause.reason.to_owned(),
            count: refused.count,
            age_ms: now_ms.saturating_sub(refused.last_ms),
        });
        refused.filter(|refused| refused.age_ms < RECENT_MS).collect()
    }
}

/// Returns true if the main loop logs this outcome itself, in more detail.
fn is_told_elsewhere(outcome: ReportOutcome) -> bool {
    matches!(outcome, ReportOutcome::EpochAhead | ReportOutcome::NeverListening | ReportOutcome::OtherPort)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_config::Agent;
    use shunt_report::{AgentKey, LoadReport, seal};

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 1, 9));

    fn watch() -> Watch {
        let agent = Agent { name: "a".into(), key_file: "/key".into(), backends: vec!["b1".into()] };
        let mut watch = Watch::default();
        watch.configure(&Feedback { silence_ms: 2000, agents: vec![agent], ..Feedback::default() }, 1000);
        watch
    }

    fn datagram(agent: &str) -> Vec<u8> {
        let report =
            LoadReport { agent: agent.parse().unwrap(), boot_epoch: 1, sequence: 1, period_ms: 50, loads: Vec::new() };
        seal(&report, &AgentKey::new(&[1; 32]).unwrap()).unwrap()
    }

    #[test]
    fn an_agent_is_silent_from_its_start_or_its_last_report_on() {
        let mut watch = watch();
        assert_eq!(watch.silent(2999), []);
        let never = |age_ms| SilentAgent { name: "a".into(), backends: vec!["b1".into()], age_ms, has_reported: false };
        assert_eq!(watch.silent(3000), [never(2000)]);
        watch.observe(SOURCE, &datagram("a"), ReportOutcome::Forged, 3500);
        assert_eq!(watch.silent(4000), [never(3000)]);
        watch.observe(SOURCE, &datagram("a"), ReportOutcome::Accepted, 4000);
        assert_eq!(watch.silent(5999), []);
        assert_eq!(watch.silent(6500), [SilentAgent { has_reported: true, ..never(2500) }]);
    }

    #[test]
    fn refused_reports_are_told_by_source_agent_and_reason_for_a_minute_or_until_one_is_accepted() {
        let mut watch = watch();
        for now_ms in [10, 20] {
            watch.observe(SOURCE, &datagram("a"), ReportOutcome::Forged, now_ms);
        }
        watch.observe(SOURCE, &datagram("z"), ReportOutcome::UnknownAgent, 30);
        watch.observe(SOURCE, &[9; 50], ReportOutcome::Version, 40);
        watch.observe(SOURCE, &datagram("a"), ReportOutcome::Late, 50);
        let told = |watch: &Watch, now_ms| {
            let refused = watch.refused(now_ms).into_iter();
            refused.map(|it| (it.agent.unwrap_or_default(), it.reason, it.count, it.age_ms)).collect::<Vec<_>>()
        };
        let of = |agent: &str, reason: &str, count, age_ms| (agent.to_owned(), reason.to_owned(), count, age_ms);
        let others = [of("", "version", 1, 60), of("z", "unknown_agent", 1, 70)];
        assert_eq!(told(&watch, 100), [others[0].clone(), of("a", "forged", 2, 80), others[1].clone()]);
        watch.observe(SOURCE, &datagram("a"), ReportOutcome::Accepted, 100);
        assert_eq!(told(&watch, 100), others);
        assert!(watch.refused(40 + RECENT_MS).is_empty());
    }

    #[test]
    fn what_was_refused_is_forgotten_once_no_reports_are_taken() {
        let mut watch = watch();
        watch.observe(SOURCE, &datagram("a"), ReportOutcome::Forged, 10);
        let listens = Feedback { listen: Some("198.18.1.1:7946".parse().unwrap()), ..Feedback::default() };
        watch.configure(&listens, 20);
        assert_eq!(watch.refused(20).len(), 1);
        watch.configure(&Feedback::default(), 30);
        assert_eq!(watch.refused(30), []);
    }

    #[test]
    fn forged_sources_take_no_more_than_their_room() {
        let mut watch = watch();
        for n in 0..1000 {
            watch.observe(IpAddr::from([198, 18, 2, n as u8]), &datagram("a"), ReportOutcome::Forged, n);
        }
        assert_eq!(watch.refused(1000).len(), MOST_CAUSES);
    }
}
