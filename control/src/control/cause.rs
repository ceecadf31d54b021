//! Why a publication is wanted. One place marks what is published as out of date: [`super::publication::Publication::mark`].

use std::collections::BTreeSet;
use std::fmt;

/// What makes the published tables out of date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Control started, and must show that it goes on from what a predecessor published.
    Start,
    /// A check of a backend came to another result.
    Health,
    /// The operator drained or enabled backends.
    Drain,
    /// A configuration was taken over.
    Reload,
    /// The way to an address changed.
    Routes,
    /// The keeper has other interfaces.
    Interfaces,
    /// The master moved weights by what backends report.
    Feedback,
    /// The last connection of something that left the configuration ended.
    Retirement,
    /// The idle buffer names somebody who is gone: only when both generations have forgotten an id may it be used again.
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

/// All causes of one publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Causes(BTreeSet<Cause>);

impl Causes {
    /// Adds one.
    pub fn add(&mut self, cause: Cause) {
        self.0.insert(cause);
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is one of them.
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
