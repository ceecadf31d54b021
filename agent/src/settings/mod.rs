//! What the agent is told: by a TOML file, or by flags where one server is one back-end or a few. Read once, at the start.

mod file;
mod flags;
mod pages;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shunt_config::{ConfigError, document};

use shunt_report::{Key, Name};

pub use flags::{Arguments, FlagError};

/// Everything the agent knows before it measures.
#[derive(Debug)]
pub struct Settings {
    /// The agent's name.
    pub name: Name,
    /// Where reports go; without it only agent checks are answered.
    pub control: Option<Control>,
    /// A report at the latest after this.
    pub period: Duration,
    /// Between two looks at the server.
    pub look_interval: Duration,
    /// How much a load must change to be reported at once, thousandths.
    pub sharp_permille: u16,
    /// Remembers the last start, so that a clock set back makes no report stale.
    pub epoch_file: Option<PathBuf>,
    /// Where applications push StatsD lines.
    pub statsd_socket: Option<PathBuf>,
    /// The back-ends of this server, at least one.
    pub backends: Vec<Backend>,
}

/// Where reports go, and how they are made authentic.
#[derive(Debug)]
pub struct Control {
    /// `feedback.listen` of control's configuration.
    pub address: SocketAddr,
    /// The key that control has for this agent.
    pub key: Key,
}

/// One back-end of this server.
#[derive(Debug)]
pub struct Backend {
    /// Its name in control's configuration.
    pub name: Name,
    /// The port on which it serves here.
    pub port: u16,
    /// TCP, else UDP.
    pub is_tcp: bool,
    /// Whether the sockets of its port are in another network namespace, where the agent can't see them.
    pub is_elsewhere: bool,
    /// Requests in flight, or clients, with which it is fully loaded.
    pub capacity: Option<u32>,
    /// Requests that it works on at a time; more have to wait.
    pub workers: Option<u32>,
    /// The cgroup of its processes.
    pub cgroup: Option<PathBuf>,
    /// While this file is there, it wants no new connections.
    pub drain_file: Option<PathBuf>,
    /// Where HAProxy asks for its load.
    pub agent_check: Option<SocketAddr>,
    /// nginx's stub_status.
    pub nginx: Option<Page>,
    /// A Prometheus text page, and what to read there.
    pub prometheus: Option<Prometheus>,
    /// A command that prints lines.
    pub command: Option<Command>,
    /// Names of pushed metrics.
    pub statsd: Option<Metrics>,
}

/// A page that a server offers by HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Where it listens.
    pub address: SocketAddr,
    /// What to get.
    pub path: String,
    /// The Host header.
    pub host: String,
}

/// A Prometheus text page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prometheus {
    /// Where it is.
    pub page: Page,
    /// What to read there; durations in seconds, as Prometheus wants them.
    pub metrics: Metrics,
}

/// Names of metrics, each where there is one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metrics {
    /// Gauge of requests in flight.
    pub in_flight: Option<String>,
    /// Counter of requests ended.
    pub requests: Option<String>,
    /// Prometheus: a summary or histogram of execution times, without `_sum` and `_count`. StatsD: a timing.
    pub execution: Option<String>,
    /// Gauge of workers: requests worked on at a time.
    pub workers: Option<String>,
}

/// A command that prints what it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// For `/bin/sh -c`.
    pub run: String,
    /// From one start to the next.
    pub interval: Duration,
    /// It is killed after this.
    pub time_limit: Duration,
}

impl Settings {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&document::read_text(path)?, &path.display().to_string())
    }

    /// Checks `text`; `file_name` is what refusals name.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, ConfigError> {
        let parsed = document::parse_document(text, file_name)?;
        document::refuse_other_kind(parsed.get_ref(), file_name, document::FileKind::Agent)?;
        let problems = document::Report::new(file_name, text);
        let settings = file::read(&problems, parsed.get_ref());
        problems.conclude(settings)
    }
}
