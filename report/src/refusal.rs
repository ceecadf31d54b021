//! Why a datagram is not believed. One name in one place: variant, counter, column and JSON.

/// A reason to drop a report, in the order in which they are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum Refusal {
    /// There is no room for a name and a tag.
    #[error("shorter than any report")]
    TooShort,
    /// More than a report may have.
    #[error("longer than any report")]
    TooLong,
    /// Another version of the format.
    #[error("not of this version of the format")]
    Version,
    /// No key for the name.
    #[error("from an agent that the configuration doesn't have")]
    UnknownAgent,
    /// The tag is not that of the content and the agent's key.
    #[error("not authentic: the agent has another key, or somebody forged it")]
    Forged,
    /// Authentic, but not a report.
    #[error("authentic, but makes no sense")]
    Malformed,
    /// Of an earlier run of the agent, or too far behind the newest.
    #[error("too old: of an earlier run, or far behind the newest report")]
    Stale,
    /// Came before.
    #[error("a repetition of one that came before")]
    Replayed,
    /// Of a run that starts in the future.
    #[error("from an agent whose clock was ahead when it started: set its clock, then start it again")]
    EpochAhead,
}

impl Refusal {
    /// All of them, each at the index of its number.
    pub const ALL: [Self; 9] = [
        Self::TooShort,
        Self::TooLong,
        Self::Version,
        Self::UnknownAgent,
        Self::Forged,
        Self::Malformed,
        Self::Stale,
        Self::Replayed,
        Self::EpochAhead,
    ];

    /// The name in counters, columns and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooShort => "too_short",
            Self::TooLong => "too_long",
            Self::Version => "version",
            Self::UnknownAgent => "unknown_agent",
            Self::Forged => "forged",
            Self::Malformed => "malformed",
            Self::Stale => "stale",
            Self::Replayed => "replayed",
            Self::EpochAhead => "epoch_ahead",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stands_at_its_number() {
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index, "{}", refusal.name());
        }
    }
}
