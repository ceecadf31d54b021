//! Load reports and their wire format: written by the agent, read by control's resource manager.
//!
//! One report is one UDP datagram of at most [`LONGEST_BYTES`]:
//!
//! ```text
//!  0         1             2                 2+n                        end-32           end
//!  | version | name length | agent's name    | body: bincode of a report | HMAC-SHA-256   |
//!              1 to 31                         without the name            of all before
//! ```
//!
//! The name is outside the body because it selects the key: only authentic bytes are decoded. Numbers are fixed-point
//! integers with their unit in the name; a value that the server does not know is absent, not zero.

pub mod agent_check;
mod key;
mod limits;
mod refusal;
mod replay;
mod wire;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU32;

pub use key::{AgentKey, KeyError};
pub use refusal::ReportRefusal;
pub use replay::{Arrival, MOST_AHEAD_US, ReplayWindow};
pub use wire::{LONGEST_BYTES, SealError, claimed, open, seal};

/// Limit of back-ends in one report: all fit with the longest names and the largest numbers.
pub const MOST_LOADS: usize = 15;

/// Range of the report interval, milliseconds.
pub const PERIOD_MS: std::ops::RangeInclusive<u16> = 20..=1000;

/// The loads of one server's back-ends at one moment, as its agent measured them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadReport {
    /// The sender; control's configuration lists the back-ends that it may report.
    pub agent: ConfigName,
    /// Start time of this agent run, microseconds since 1970; increases with each start.
    pub boot_epoch: u64,
    /// Sequence number in this run, from 1.
    pub sequence: u64,
    /// Longest interval to the next report. Control treats the agent as silent after a few of them.
    pub period_ms: u16,
    /// One entry for each back-end, at most [`MOST_LOADS`].
    pub loads: Vec<ReportedLoad>,
}

/// The load of one back-end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedLoad {
    /// The back-end's name in control's configuration.
    pub backend: ConfigName,
    /// The port that the agent observes.
    pub port: u16,
    /// Whether a process listens on the port.
    pub listening: Listening,
    /// Whether the server accepts connections, by its own account.
    pub state: ServerState,
    /// Established connections to the back-end's port.
    pub clients: Option<u32>,
    /// Requests started and not yet answered.
    pub in_flight: Option<u32>,
    /// CPU use relative to the server's limit, thousandths.
    pub cpu_permille: Option<u16>,
    /// Memory use relative to the server's limit, thousandths.
    pub memory_permille: Option<u16>,
    /// Mean execution time of requests completed since the last report, microseconds.
    pub execution_us: Option<u32>,
    /// Requests completed per 1000 seconds.
    pub requests_per_s_milli: Option<u64>,
    /// Requests that the server executes concurrently; others queue.
    pub workers: Option<NonZeroU32>,
    /// Mean number of executing requests, without queued ones, thousandths: execution time divided by elapsed time.
    pub busy_milli: Option<u32>,
}

impl ReportedLoad {
    /// A load without measurements.
    pub fn unknown(backend: ConfigName) -> Self {
        Self {
            backend,
            port: 0,
            listening: Listening::Unobserved,
            state: ServerState::Up,
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

/// Whether a server accepts connections, by its own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ServerState {
    /// It accepts new connections.
    #[default]
    Up,
    /// It completes existing connections and accepts no new ones.
    Drain,
    /// It cannot serve.
    Down,
}

/// Whether a process listens on a back-end's port, as observed since the agent started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Listening {
    /// The agent cannot observe the port's sockets, or its configuration places them in another network namespace.
    #[default]
    Unobserved,
    /// No listener has been observed: the port may be mistyped.
    Never,
    /// A process listens.
    Yes,
    /// The listener is gone.
    NoLonger,
}

/// Name of an agent or a back-end: 1 to 31 letters, digits, '.', '_' and '-', as in control's configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConfigName(String);

impl ConfigName {
    /// Longest name, bytes.
    pub const LONGEST: usize = 31;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is not a valid name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a name: write 1 to 31 letters, digits, '.', '_' and '-'")]
pub struct NotAName;

impl TryFrom<String> for ConfigName {
    type Error = NotAName;

    fn try_from(text: String) -> Result<Self, NotAName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let good = (1..=Self::LONGEST).contains(&text.len()) && text.bytes().all(allowed);
        if good { Ok(Self(text)) } else { Err(NotAName) }
    }
}

impl std::str::FromStr for ConfigName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        Self::try_from(text.to_owned())
    }
}

impl From<ConfigName> for String {
    fn from(name: ConfigName) -> Self {
        name.0
    }
}

impl fmt::Display for ConfigName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
