//! The agent's settings: a TOML file, or flags for a server with one or a few back-ends. Read once, at start.

mod file;
mod flags;
mod pages;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shunt_config::{ConfigError, document};

use shunt_report::{AgentKey, ConfigName};

pub use flags::{Arguments, FlagError};

/// All settings of the agent.
#[derive(Debug)]
pub struct Settings {
    /// The agent's name.
    pub name: ConfigName,
    /// The receiver of reports; without it the agent only answers agent checks.
    pub control: Option<Control>,
    /// Longest interval between reports.
    pub period: Duration,
    /// Interval between samples of the server.
    pub look_interval: Duration,
    /// Dead band: the load change that causes an immediate report, thousandths.
    pub sharp_permille: u16,
    /// Persists the last start time, so that a clock set back does not make reports stale.
    pub epoch_file: Option<PathBuf>,
    /// Path of the StatsD socket.
    pub statsd_socket: Option<PathBuf>,
    /// The back-ends of this server, at least one.
    pub backends: Vec<Backend>,
}

/// The receiver of reports, and their authentication key.
#[derive(Debug)]
pub struct Control {
    /// `feedback.listen` of control's configuration.
    pub address: SocketAddr,
    /// The key that control has for this agent.
    pub key: AgentKey,
}

/// One back-end of this server.
#[derive(Debug)]
pub struct Backend {
    /// Its name in control's configuration.
    pub name: ConfigName,
    /// The port that it serves on this machine.
    pub port: u16,
    /// TCP if true, else UDP.
    pub is_tcp: bool,
    /// Whether its sockets are in another network namespace, where the agent cannot see them.
    pub is_elsewhere: bool,
    /// Requests in flight, or clients, at full load.
    pub capacity: Option<u32>,
    /// Requests that it executes concurrently; others queue.
    pub workers: Option<u32>,
    /// The cgroup of its processes.
    pub cgroup: Option<PathBuf>,
    /// While this file exists, it accepts no new connections.
    pub drain_file: Option<PathBuf>,
    /// The listening address for HAProxy's agent checks.
    pub agent_check: Option<SocketAddr>,
    /// nginx's stub_status.
    pub nginx: Option<Page>,
    /// A Prometheus page and the metrics to read.
    pub prometheus: Option<Prometheus>,
    /// A command that prints metrics.
    pub command: Option<Command>,
    /// Names of pushed metrics.
    pub statsd: Option<Metrics>,
}

/// A page on an HTTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The server's address.
    pub address: SocketAddr,
    /// The request path.
    pub path: String,
    /// The Host header.
    pub host: String,
}

/// A Prometheus text page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prometheus {
    /// The page.
    pub page: Page,
    /// The metrics to read; durations in seconds, as in Prometheus' conventions.
    pub metrics: Metrics,
}

/// Names of metrics, each optional.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metrics {
    /// Gauge of requests in flight.
    pub in_flight: Option<String>,
    /// Counter of completed requests.
    pub requests: Option<String>,
    /// Prometheus: a summary or histogram of execution times, without `_sum` and `_count`. StatsD: a timing.
    pub execution: Option<String>,
    /// Gauge of workers: requests executed concurrently.
    pub workers: Option<String>,
}

/// A command that prints metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Argument of `/bin/sh -c`.
    pub run: String,
    /// Interval between starts.
    pub interval: Duration,
    /// It is killed after this.
    pub time_limit: Duration,
}

impl Settings {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&document::read_text(path)?, &path.display().to_string())
    }

    /// Checks `text`; error messages name `file_name`.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, ConfigError> {
        let parsed = document::parse_document(text, file_name)?;
        document::refuse_other_kind(parsed.get_ref(), file_name, document::FileKind::Agent)?;
        let problems = document::Report::new(file_name, text);
        let settings = file::read(&problems, parsed.get_ref());
        problems.conclude(settings)
    }
}
