//! What an agent tells control, and how it travels: written by the agent, read by control's resource manager.
//!
//! One report is one UDP datagram of at most [`LONGEST_BYTES`]:
//!
//! ```text
//!  0         1             2                 2+n                        end-32           end
//!  | version | name length | agent's name    | body: bincode of a report | HMAC-SHA-256   |
//!              1 to 31                         without the name            of all before
//! ```
//!
//! The name stands outside the body because it says whose key to try: so nothing that is not authentic is ever decoded.
//! Numbers are fixed-point integers with their unit in the name; what a server can't tell is absent, not zero.

pub mod agent_check;
mod key;
mod limits;
mod refusal;
mod replay;
mod wire;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU32;

pub use key::{Key, KeyError};
pub use refusal::Refusal;
pub use replay::{Arrival, MOST_AHEAD_US, ReplayWindow};
pub use wire::{LONGEST_BYTES, SealError, claimed, open, seal};

/// Back-ends in one report: as many as fit with the longest names and the largest numbers.
pub const MOST_LOADS: usize = 15;

/// Shortest and longest time between two reports of an agent, milliseconds.
pub const PERIOD_MS: std::ops::RangeInclusive<u16> = 20..=1000;

/// The load of one server, as its agent saw it at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Who says so; control knows which back-ends it may speak for.
    pub agent: Name,
    /// When this run of the agent started, microseconds since 1970; each start has a greater one than the last.
    pub boot_epoch: u64,
    /// Number of the report in this run, from 1.
    pub sequence: u64,
    /// After how long the agent sends the next report at the latest. Control may take more than a few of these as silence.
    pub period_ms: u16,
    /// One for each back-end of the server, at most [`MOST_LOADS`].
    pub loads: Vec<Load>,
}

/// The load of one back-end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// The back-end's name in control's configuration.
    pub backend: Name,
    /// The port that the agent watches for it.
    pub port: u16,
    /// Whether anybody listens there.
    pub listening: Listening,
    /// What the server itself says about taking connections.
    pub state: State,
    /// Clients now served: established connections to the back-end's port.
    pub clients: Option<u32>,
    /// Requests begun and not yet answered.
    pub in_flight: Option<u32>,
    /// Use of the CPU time that the server may use, thousandths.
    pub cpu_permille: Option<u16>,
    /// Use of the memory that the server may use, thousandths.
    pub memory_permille: Option<u16>,
    /// Mean execution time of the requests ended since the last report, microseconds.
    pub execution_us: Option<u32>,
    /// Requests ended each 1000 seconds.
    pub requests_per_s_milli: Option<u64>,
    /// Requests that it works on at a time; more have to wait.
    pub workers: Option<NonZeroU32>,
    /// Requests at work over the last moments, waiting ones not counted, thousandths: their execution time by time.
    pub busy_milli: Option<u32>,
}

impl Load {
    /// A load of which nothing is known yet.
    pub fn unknown(backend: Name) -> Self {
        Self {
            backend,
            port: 0,
            listening: Listening::Unobserved,
            state: State::Up,
            clients: None,
            in_flight: None,
            cpu_permille: None,
            memory_permille: None,
            execution_us: None,
            requests_per_s_milli: None,
            workers: None,
            busy_milli: None,
        }
    }
}

/// What a server says about taking connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum State {
    /// It takes them.
    #[default]
    Up,
    /// It finishes those it has and wants no new ones.
    Drain,
    /// It can't serve.
    Down,
}

/// Whether anybody listens on a back-end's port, as far as the agent has seen since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Listening {
    /// The agent can't see the port's sockets, or was told that another network namespace has them.
    #[default]
    Unobserved,
    /// Nobody ever did: the port may be mistyped.
    Never,
    /// Somebody does.
    Yes,
    /// Somebody did.
    NoLonger,
}

/// Name of an agent or a back-end: 1 to 31 letters, digits, '.', '_' and '-', as in control's configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Bytes of the longest name.
    pub const LONGEST: usize = 31;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a name: write 1 to 31 letters, digits, '.', '_' and '-'")]
pub struct NotAName;

impl TryFrom<String> for Name {
    type Error = NotAName;

    fn try_from(text: String) -> Result<Self, NotAName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let good = (1..=Self::LONGEST).contains(&text.len()) && text.bytes().all(allowed);
        if good { Ok(Self(text)) } else { Err(NotAName) }
    }
}

impl std::str::FromStr for Name {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        Self::try_from(text.to_owned())
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
