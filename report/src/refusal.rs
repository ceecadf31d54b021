//! Why a datagram is refused. Each name is defined once: variant, counter, column and JSON.

/// A reason to refuse a report, in the order of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum ReportRefusal {
    /// Too short for a name and a tag.
    #[error("shorter than any report")]
    TooShort,
    /// Too long for a report.
    #[error("longer than any report")]
    TooLong,
    /// Another version of the wire format.
    #[error("not of this version of the format")]
    Version,
    /// No key is configured for the agent's name.
    #[error("from an agent that is not configured")]
    UnknownAgent,
    /// The tag does not match the content and the agent's key.
    #[error("not authentic: the agent has another key, or the datagram is forged")]
    Forged,
    /// Authentic, but not decodable as a report.
    #[error("authentic, but cannot be decoded")]
    Malformed,
    /// From an earlier run of the agent, or outside the replay window.
    #[error("too old: of an earlier run, or far behind the newest report")]
    Stale,
    /// Already received.
    #[error("replayed: it was received before")]
    Replayed,
    /// From a run that started in the future.
    #[error("from an agent whose clock was ahead when it started: set its clock, then start it again")]
    EpochAhead,
}

impl ReportRefusal {
    /// All variants, each at the index of its number.
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
        for (index, refusal) in ReportRefusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index, "{}", refusal.name());
        }
    }
}
