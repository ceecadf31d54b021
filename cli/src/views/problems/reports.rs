//! Load reports that are missing, or that control refuses.

use super::{Problem, Severity};
use crate::format::duration;
use shunt_protocol::admin::{RefusedReports, ReportPath, SilentAgent};
use shunt_shmlayout::report_outcome::ReportOutcome;

/// All problems that keep reports from taking effect.
pub(super) fn report_problems(path: &ReportPath) -> Vec<Problem> {
    if let Some((listen, why)) = &path.not_listening {
        // Then no agent is heard, whatever the agents do.
        return vec![not_listening(listen, why)];
    }
    let silent = path.silent.iter().map(silent);
    silent.chain(path.refused.iter().map(|refused| self::refused(refused, !path.silent.is_empty()))).collect()
}

fn not_listening(listen: &str, why: &str) -> Problem {
    let text = format!("control can't take load reports there: {why}; weights are those of the configuration");
    let mend = "set it to a free address and port of this machine (ip addr, ss -lunp), then `shunt reload`";
    Problem::new("feedback_not_listening", Severity::Degraded, format!("feedback.listen {listen}"), text, mend)
}

fn silent(agent: &SilentAgent) -> Problem {
    let age = duration(agent.age_ms);
    let how = if agent.has_reported {
        format!("its last report came {age} ago")
    } else {
        format!("no report in the {age} that control has waited for it")
    };
    let text = format!("{how}: the load of {} isn't known", agent.backends.join(", "));
    let mend = "start shunt-agent there, or read its log; its `control` is to be feedback.listen, reachable by UDP";
    Problem::new("agent_silent", Severity::Degraded, format!("agent {}", agent.name), text, mend)
}

/// Any host can send a datagram that is refused: while every agent is heard, it is only a notice.
fn refused(refused: &RefusedReports, is_missed: bool) -> Problem {
    let outcome = ReportOutcome::ALL.iter().find(|outcome| outcome.name() == refused.reason);
    let is_agents = outcome.is_some_and(|outcome| needs_key(*outcome));
    let severity = if is_agents || is_missed { Severity::Degraded } else { Severity::Notice };
    let RefusedReports { source, agent, reason, count, age_ms } = refused;
    let meaning = outcome.map(|outcome| format!(" ({})", outcome.meaning().trim_end_matches('.'))).unwrap_or_default();
    let text = format!("{count} refused, the last one {} ago: {reason}{meaning}", duration(*age_ms));
    let agent = agent.as_ref().map(|agent| format!(" as agent {agent}")).unwrap_or_default();
    let mend = outcome.map_or(STRANGER, |outcome| mend(*outcome));
    Problem::new("reports_refused", severity, format!("reports from {source}{agent}"), text, mend)
}

/// Whether only a holder of the agent's key can cause this.
fn needs_key(outcome: ReportOutcome) -> bool {
    use ReportOutcome::{Absurd, EpochAhead, NeverListening, NotItsBackend, OtherPort};
    matches!(outcome, NeverListening | OtherPort | EpochAhead | Absurd | NotItsBackend)
}

const STRANGER: &str = "only agents should send to feedback.listen: find out what runs at that address";

fn mend(outcome: ReportOutcome) -> &'static str {
    match outcome {
        ReportOutcome::Forged => {
            "copy the agent's key file to the key_file of its [[agent]], then `shunt reload`; if it runs elsewhere, find \
             out who sends"
        }
        ReportOutcome::UnknownAgent => {
            "correct `name` in the agent's file to that of an [[agent]] here, or add one, then `shunt reload`"
        }
        ReportOutcome::Version | ReportOutcome::Malformed => "install the same version of Shunt on both machines",
        ReportOutcome::EpochAhead | ReportOutcome::Stale => "set that machine's clock, then start its agent again",
        ReportOutcome::NotItsBackend => "add the backend to this [[agent]], or take it out of the agent's file",
        ReportOutcome::NeverListening | ReportOutcome::OtherPort => {
            "correct backend.port in the agent's file, or write listener = \"elsewhere\" there"
        }
        _ => STRANGER,
    }
}
