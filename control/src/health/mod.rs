//! Health checks: one task per backend and check probes it periodically and sends health changes.
//!
//! `configured` lists the checks, `probe` runs one attempt, `hysteresis` decides, `checker` starts and stops the tasks,
//! `notes` stores reasons, `answers` detects backends that pass their checks but answer no client. Checks use the kernel's
//! network stack, or take a client's path (`as_client`). In both cases replies are addressed to this machine, and the XDP
//! program passes them. Results go to control's main loop through a channel; the master converts them into weights.

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

/// Identifies a check: a backend of one service. Names stay the same across reloads and restarts.
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
    /// The backend and service.
    pub key: BackendKey,
    /// The address to probe.
    pub target: SocketAddr,
    /// The client's path of its packets; `None` for the kernel's.
    pub way: Option<ClientWay>,
    /// The request.
    pub probe: Probe,
    /// Interval between attempts, varied by a tenth.
    pub interval: Duration,
    /// Timeout of an attempt.
    pub timeout: Duration,
    /// Consecutive successes until it is up.
    pub rise: u32,
    /// Consecutive failures until it is down.
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

/// A change of health, or a new reason for being down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthUpdate {
    /// The backend and service.
    pub key: BackendKey,
    /// The current health.
    pub health: Health,
    /// Whether the health changed.
    pub is_change: bool,
    /// The reason, for the log and the operator.
    pub reason: String,
}
