//! What became of a report of load: one name in one place. The variant is the counter, the status column and the JSON key.

use crate::counted::counted;

counted! {
    "What became of a report." ReportOutcome:
    /// Authentic, new and plausible: it counts.
    Accepted = "accepted",
    /// Authentic, but about a port on which nobody was ever seen listening: that back-end's load is ignored.
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
    /// From an agent that the configuration doesn't have.
    UnknownAgent = "unknown_agent",
    /// Signed with another key than the agent's.
    Forged = "forged",
    /// Authentic, but no report.
    Malformed = "malformed",
    /// Of an earlier run of the agent, or far behind its newest.
    Stale = "stale",
    /// Came before.
    Replayed = "replayed",
    /// Of a run of the agent that starts in the future: its clock was ahead.
    EpochAhead = "epoch_ahead",
    /// Says what can't be.
    Absurd = "absurd",
    /// Speaks for a backend that isn't the agent's.
    NotItsBackend = "not_its_backend",
    /// An answer of an HAProxy agent.
    CheckAnswered = "check_answered",
    /// No answer, or none that means anything, from an HAProxy agent.
    CheckFailed = "check_failed",
}

/// How many outcomes there are.
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
