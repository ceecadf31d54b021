//! Health checks: one task a backend and check asks it again and again, and tells when its health changes.
//!
//! `configured` says what to check, `probe` asks, `hysteresis` decides, `checker` starts and stops the tasks, `notes`
//! remembers why, `answers` finds backends that pass their checks and answer no client. Checks use the kernel's own network
//! stack, or take a client's way (`as_client`). In both cases their replies are addressed to this machine, and the XDP
//! program lets them pass.
//! Results go to control's main loop by a channel; the master turns them into weights.

pub mod answers;
pub mod as_client;
pub mod checker;
pub mod configured;
pub mod hysteresis;
pub mod notes;
pub mod probe;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use as_client::ClientWay;
use shunt_config::Probe;
pub use shunt_publish::health::Health;

/// What a check is about: a backend as one service sees it. Names stay the same through a reload and a restart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendKey {
    /// The service's name.
    pub service: String,
    /// The backend's name.
    pub backend: String,
}

/// One check of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Whom the result is about.
    pub key: BackendKey,
    /// Where to ask.
    pub target: SocketAddr,
    /// The client's way that its packets take; the kernel's where there is none.
    pub way: Option<ClientWay>,
    /// What to ask.
    pub probe: Probe,
    /// From the start of one attempt to the start of the next, give or take a tenth.
    pub interval: Duration,
    /// An attempt that took longer failed.
    pub timeout: Duration,
    /// Good answers in a row that bring it up.
    pub rise: u32,
    /// Failures in a row that take it down.
    pub fall: u32,
}

impl fmt::Display for Check {
    /// Who is asked: where it is more than an address, by whom.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.way {
            Some(way) if way.backend != self.target.ip() => write!(f, "{} by {}", self.target, way.backend),
            _ => write!(f, "{}", self.target),
        }
    }
}

/// A change of health, or another reason for being down still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whose.
    pub key: BackendKey,
    /// What it is now.
    pub health: Health,
    /// Whether it was otherwise before.
    pub is_change: bool,
    /// Why, for the log and the operator.
    pub reason: String,
}
