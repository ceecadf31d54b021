//! Outcomes of load reports, each defined once: the variant is the counter, the status column and the JSON key.

use crate::counted::counted;

counted! {
    "The outcome of a report." ReportOutcome:
    /// Authentic, new and plausible: it takes effect.
    Accepted = "accepted",
    /// Authentic, but about a port on which no process was ever seen listening: that back-end's load is ignored.
    NeverListening = "never_listening",
    /// Authentic, but about another port than the back-end's: that back-end's load is ignored.
    OtherPort = "other_port",
    /// Genuine, but overtaken by a newer one on the way.
    Late = "late",
    /// Shorter than any report.
    TooShort = "too_short",
    /// Longer than any report.
    TooLong = "too_long",
    /// Of another version of the format: agents and control must be of the same version of Shunt.
    Version = "version",
    /// From an agent that is not configured.
    UnknownAgent = "unknown_agent",
    /// Signed with another key than the agent's.
    Forged = "forged",
    /// Authentic, but not a valid report.
    Malformed = "malformed",
    /// Of an earlier run of the agent, or far behind its newest.
    Stale = "stale",
    /// Received before.
    Replayed = "replayed",
    /// Of a run of the agent that starts in the future: its clock was ahead.
    EpochAhead = "epoch_ahead",
    /// Contains impossible values.
    Absurd = "absurd",
    /// About a back-end that is not the agent's.
    NotItsBackend = "not_its_backend",
    /// An answer from an HAProxy agent.
    CheckAnswered = "check_answered",
    /// No answer, or no valid one, from an HAProxy agent.
    CheckFailed = "check_failed",
}

/// Number of outcomes.
pub const REPORT_OUTCOMES: usize = ReportOutcome::ALL.len();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_follow_the_order_and_names_are_unique() {
        let names: std::collections::HashSet<_> = ReportOutcome::ALL.iter().map(|outcome| outcome.name()).collect();
        assert_eq!(names.len(), REPORT_OUTCOMES);
        assert!(ReportOutcome::ALL.iter().enumerate().all(|(index, outcome)| *outcome as usize == index));
    }
}
