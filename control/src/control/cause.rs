//! Causes of a publication. Only [`super::publication::Publication::mark`] marks the published tables as out of date.

use std::collections::BTreeSet;
use std::fmt;

/// A cause that makes the published tables out of date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Control started, and must show that it resumed from a predecessor's publication.
    Start,
    /// A check's result changed.
    Health,
    /// The operator drained or enabled backends.
    Drain,
    /// A configuration was applied.
    Reload,
    /// The route to an address changed.
    Routes,
    /// The keeper's interfaces changed.
    Interfaces,
    /// The master changed weights after load reports.
    Feedback,
    /// The last connection of a removed item ended.
    Retirement,
    /// The idle buffer references a removed item: only when both generations no longer reference an id may it be reused.
    IdleBuffer,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Health => "health",
            Self::Drain => "drain",
            Self::Reload => "reload",
            Self::Routes => "routes",
            Self::Interfaces => "interfaces",
            Self::Feedback => "feedback",
            Self::Retirement => "retirement",
            Self::IdleBuffer => "idle buffer",
        })
    }
}

/// The causes of one publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Causes(BTreeSet<Cause>);

impl Causes {
    /// Adds a cause.
    pub fn add(&mut self, cause: Cause) {
        self.0.insert(cause);
    }

    /// Adds another set's causes.
    pub fn merge(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }

    /// Returns true if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if it contains `cause`.
    pub fn contains(&self, cause: Cause) -> bool {
        self.0.contains(&cause)
    }
}

impl FromIterator<Cause> for Causes {
    fn from_iter<I: IntoIterator<Item = Cause>>(causes: I) -> Self {
        Self(causes.into_iter().collect())
    }
}

impl fmt::Display for Causes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(Cause::to_string).collect();
        f.write_str(&names.join(", "))
    }
}
