//! Derives the problems of a running instance: a pure function of the values that `shunt status` read.
//!
//! Each problem has a code for programs, which is the same in every version, and a severity, which determines the exit
//! status as for monitoring plug-ins.

mod answers;
mod links;
mod outside;
mod pseudo;
mod reach;
mod reports;

use super::processes::{Process, ProcessRow, ProcessState};
use super::status::{ConnectionTableRow, TrafficRow};
pub use answers::{ROUTE_REPLIES, unanswered_text};
pub use links::{FaultyLink, REPLACED, START_ANEW, faulty_links};
pub use outside::seen_from_outside;
pub use pseudo::{FaultyHost, faulty_host, host_text};
pub use reach::{UnreachableBackend, WayFault, way_fault};

use crate::admin::{AdminError, ConfigurationFile};
use crate::format::duration;
use serde::Serialize;
use shunt_process::control_socket;

/// Percentage of its capacity above which the connection table is nearly full.
const NEARLY_FULL_PERCENT: u64 = 90;
/// Maximum lines of text per code: a dead server can have hundreds of backends.
const MOST_LINES: usize = 10;
/// How long a packet with an unfilled checksum counts as a problem: waiting clients retry within a minute (RFC 6298).
pub const UNFILLED_RECENT_MS: u64 = 60_000;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// A notice. Clients can cause it, so it must not raise an alarm.
    Notice,
    /// Every service works, but something needs attention.
    Degraded,
    /// Some clients get no service.
    NotServing,
}

/// A problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Its code, for programs.
    pub code: &'static str,
    /// Its severity.
    pub severity: Severity,
    /// Its object, as `switcher 0` or `service web`.
    pub object: String,
    /// What is wrong, and its consequence.
    pub text: String,
    /// The remedy.
    pub mend: String,
}

/// Every code; docs/operating.md explains them.
const CODES: &[&str] = &[
    "not_running",
    "process_dead",
    "process_absent",
    "process_silent",
    "nothing_published",
    "epoch_not_taken",
    "interface_down",
    "interface_gone",
    "interfaces_unseen",
    "host_down",
    "service_without_backend",
    "backend_down",
    "backend_declined",
    "backend_unreachable",
    "backend_unanswered",
    "checksum_unfilled",
    "table_nearly_full",
    "control_unanswered",
    "configuration_refused",
    "reload_refused",
    "configuration_unsaved",
    "key_missing",
    "agent_silent",
    "feedback_not_listening",
    "reports_refused",
    "frames_unaccounted",
];

impl Problem {
    fn new(code: &'static str, severity: Severity, object: impl Into<String>, text: String, mend: &str) -> Self {
        debug_assert!(CODES.contains(&code), "{code}");
        Self { code, severity, object: object.into(), text, mend: mend.to_owned() }
    }

    /// The line in `shunt status`.
    pub fn line(&self) -> String {
        format!("! {}: {}: {} -> {}\n", self.code, self.object, self.text, self.mend)
    }
}

/// The health of a service.
pub struct ServiceState {
    /// Its name.
    pub name: String,
    /// Which of its new connections find a backend.
    pub served: Served,
}

/// Which clients of a service are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Served {
    /// All clients.
    All,
    /// All except those of a rule, such as the client with this address.
    Not(String),
    /// None: no back-end takes connections.
    Nobody,
    /// None: no packet reaches a back-end that takes connections.
    Unreached,
}

/// An interface on which a packet with an unfilled checksum arrived.
pub struct Unfilled {
    /// Its name.
    pub interface: String,
    /// Age of that packet.
    pub age_ms: u64,
    /// Whether it leads to clients, any of which can craft such a packet.
    pub has_clients: bool,
}

/// The values from which problems are derived.
pub struct Observed<'a> {
    /// All processes of the instance.
    pub processes: &'a [ProcessRow],
    /// The configuration epoch that was active a moment ago, so that processes had time to take it.
    pub epoch: u64,
    /// The services of the active configuration.
    pub services: &'a [ServiceState],
    /// Names of the backends whose health check fails.
    pub backends_down: &'a [String],
    /// Names of the other backends whose agents decline connections.
    pub backends_declined: &'a [String],
    /// Backends that are up, but that no packet reaches.
    pub backends_unreachable: &'a [UnreachableBackend],
    /// How full the connection table is.
    pub connection_table: &'a ConnectionTableRow,
    /// Frame counts by outcome.
    pub traffic: &'a TrafficRow,
    /// Frames held by switchers, or by killed ones when they died.
    pub frames_in_hand: u64,
    /// Interfaces that carry no packets.
    pub links: &'a [FaultyLink],
    /// A process whose network namespace has the interfaces, if this one does not.
    pub outside: Option<u32>,
    /// The fault of the pseudo-interface, if the box's own programs are not reached through it.
    pub host: Option<&'a FaultyHost>,
    /// Interfaces with unfilled checksums.
    pub unfilled: &'a [Unfilled],
    /// Control's status of the configuration file; `None` if control does not run.
    pub configuration: Option<&'a Result<ConfigurationFile, AdminError>>,
}

/// All problems, the most important first.
pub fn problems(observed: &Observed<'_>) -> Vec<Problem> {
    let mut problems = process_problems(observed.processes);
    problems.extend(epoch_problems(observed));
    problems.extend(observed.links.iter().map(links::faulty));
    problems.extend(observed.outside.map(outside::unseen));
    problems.extend(observed.host.map(pseudo::host_down));
    problems.extend(observed.services.iter().filter_map(unserved));
    problems.extend(observed.backends_down.iter().map(|name| backend_down(name)));
    problems.extend(observed.backends_declined.iter().map(|name| backend_declined(name)));
    let file = observed.configuration.and_then(|told| told.as_ref().ok());
    problems.extend(observed.backends_unreachable.iter().map(reach::unreachable));
    // A backend that no packet reaches cannot answer, whichever path its replies take.
    let is_reached = |name: &str| observed.backends_unreachable.iter().all(|backend| backend.name != name);
    let unanswered = file.into_iter().flat_map(|file| &file.status.unanswered);
    problems.extend(unanswered.filter(|it| is_reached(&it.name)).map(answers::unanswered));
    problems.extend(observed.unfilled.iter().filter(|it| it.age_ms < UNFILLED_RECENT_MS).map(unfilled));
    problems.extend(nearly_full(observed.connection_table));
    problems.extend(observed.configuration.and_then(|told| told.as_ref().err()).map(control_unanswered));
    problems.extend(file.into_iter().flat_map(file_problems));
    problems.extend(file.into_iter().flat_map(|file| reports::report_problems(&file.status.reports)));
    problems.extend(unaccounted(observed.traffic, observed.frames_in_hand));
    problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
    problems
}

/// The highest severity; `None` if there are only notices.
pub fn worst(problems: &[Problem]) -> Option<Severity> {
    problems.iter().map(|problem| problem.severity).max().filter(|severity| *severity > Severity::Notice)
}

/// The text in `shunt status`: of many problems with one code, only the first.
pub fn lines(problems: &[Problem]) -> String {
    problems.chunk_by(|a, b| a.code == b.code).map(lines_of_one_code).collect()
}

fn lines_of_one_code(problems: &[Problem]) -> String {
    let (shown, more) = problems.split_at(problems.len().min(MOST_LINES));
    let mut text: String = shown.iter().map(Problem::line).collect();
    if let Some(Problem { code, .. }) = more.first() {
        let command = if code.starts_with("backend_") { "shunt backends" } else { "shunt status --json" };
        text += &format!("! {code}: and {} more (`{command}` shows all)\n", more.len());
    }
    text
}

/// The problem of an instance without shared memory; `text` describes it, `mend` is the remedy.
pub fn not_running(instance: &str, text: String, mend: &str) -> Problem {
    Problem::new("not_running", Severity::NotServing, format!("instance {instance}"), text, mend)
}

/// A problem for each process that does not run.
pub fn process_problems(rows: &[ProcessRow]) -> Vec<Problem> {
    rows.iter().filter(|row| row.state != ProcessState::Running).map(process_problem).collect()
}

fn process_problem(row: &ProcessRow) -> Problem {
    let (severity, meaning) = match row.process {
        Process::Keeper => (Severity::Degraded, "switchers that die can't be replaced until it is back"),
        Process::Control => {
            (Severity::Degraded, "configuration, health and neighbours stay as they are until it is back")
        }
        Process::Ifdaemon => {
            (Severity::NotServing, "packets of the box's own programs wait, and are dropped when the stores are full")
        }
        Process::Switcher => (Severity::NotServing, "packets of its queues wait until it is back"),
    };
    let pid = row.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    let (code, how, mend) = match row.state {
        ProcessState::Silent => (
            "process_silent",
            "lives, but has not turned for 2 s",
            "if it was stopped, kill -CONT its pid; else kill -9 it, and the supervisor starts it again",
        ),
        ProcessState::Absent => {
            ("process_absent", "has not started", "its log says why; the supervisor (or systemd) starts it")
        }
        ProcessState::Dead | ProcessState::Running => {
            ("process_dead", "is not running", "its log says why it ended; the supervisor (or systemd) starts it again")
        }
    };
    Problem::new(code, severity, row.name(), format!("shunt-{}{pid} {how}: {meaning}", row.name()), mend)
}

/// Control publishes epochs, and the interface daemon uses none.
fn goes_by_epochs(process: Process) -> bool {
    match process {
        Process::Keeper | Process::Switcher => true,
        Process::Control | Process::Ifdaemon => false,
    }
}

fn epoch_problems(observed: &Observed<'_>) -> Vec<Problem> {
    if observed.epoch == 0 {
        let text = "no configuration was ever published: no packet is anybody's".to_owned();
        let mend = "shunt-control publishes it when it starts; its log says what it waits for";
        return vec![Problem::new("nothing_published", Severity::NotServing, "configuration", text, mend)];
    }
    let is_behind = |row: &&ProcessRow| {
        goes_by_epochs(row.process) && row.state == ProcessState::Running && row.epoch < observed.epoch
    };
    let behind = observed.processes.iter().filter(is_behind).map(|row| {
        let text = format!("goes by configuration epoch {}, the newest is {}", row.epoch, observed.epoch);
        let mend = "if it stays so, kill -9 the process: its successor takes the newest epoch";
        Problem::new("epoch_not_taken", Severity::Degraded, row.name(), text, mend)
    });
    behind.collect()
}

fn unserved(service: &ServiceState) -> Option<Problem> {
    let text = match &service.served {
        Served::All => return None,
        Served::Not(client) => {
            format!("no back-end of a rule takes connections: its clients, as {client}, are refused")
        }
        Served::Nobody => "no back-end takes connections: new clients are refused".to_owned(),
        Served::Unreached => "no packet reaches any of its back-ends: all are dropped".to_owned(),
    };
    let mend = match service.served {
        Served::Unreached => "backend_unreachable says of each back-end what is missing",
        _ => "`shunt backends` says why each is down, or who was drained",
    };
    let object = format!("service {}", service.name);
    Some(Problem::new("service_without_backend", Severity::NotServing, object, text, mend))
}

fn backend_down(name: &str) -> Problem {
    let text = "is down: it gets no new connection".to_owned();
    let mend = "`shunt backends` says what its check or agent reports";
    Problem::new("backend_down", Severity::Degraded, format!("backend {name}"), text, mend)
}

fn backend_declined(name: &str) -> Problem {
    let text = "its agent says drain or down: it gets no new connection".to_owned();
    let mend = "`shunt backends` shows the report; the server's own log says why";
    Problem::new("backend_declined", Severity::Degraded, format!("backend {name}"), text, mend)
}

/// The remedy for unfilled checksums on an interface.
pub fn fill_checksums(interface: &str) -> String {
    format!(
        "where the senders are, on the other end of {interface}: ethtool -K PEER tx off; if {interface} is a virtio \
         device: ethtool -K {interface} rx off"
    )
}

fn unfilled(it: &Unfilled) -> Problem {
    let text = format!(
        "packets come in without a transport checksum (the last one {} ago), and are dropped: their connections hang",
        duration(it.age_ms)
    );
    let object = format!("interface {}", it.interface);
    // From clients, one stranger's packet per minute would raise the alarm.
    let severity = if it.has_clients { Severity::Notice } else { Severity::Degraded };
    Problem::new("checksum_unfilled", severity, object, text, &fill_checksums(&it.interface))
}

fn nearly_full(table: &ConnectionTableRow) -> Option<Problem> {
    let percent = table.live.saturating_mul(100) / table.capacity.max(1);
    let text = format!("{} of {} connections ({percent} %)", table.live, table.capacity);
    let mend = "raise limits.connections and start Shunt anew, or shorten [timeouts]";
    (percent >= NEARLY_FULL_PERCENT)
        .then(|| Problem::new("table_nearly_full", Severity::Degraded, "connection table", text, mend))
}

/// Control runs, but its status could not be read.
pub fn control_unanswered(error: &AdminError) -> Problem {
    let why = match error {
        AdminError::NotRunning(instance) | AdminError::NoInstance { instance, .. } => {
            format!("it runs, and nobody listens at {}", control_socket(instance).display())
        }
        AdminError::Silent { .. } => "it runs, and is too busy to answer".to_owned(),
        error => error.to_string(),
    };
    let text = format!("whether its file, load reports and back-ends' answers are in order isn't known: {why}");
    let mend = match error {
        AdminError::Denied(_) => "run it with sudo",
        AdminError::Unintelligible(_) => "install one version of Shunt's programs, then stop Shunt and start it again",
        AdminError::Silent { .. } => {
            "if it stays so, its log says what it does; kill -9 its pid, and its successor goes on from shared memory"
        }
        _ => "kill -9 control's pid: its successor makes its socket anew, and no connection is lost",
    };
    Problem::new("control_unanswered", Severity::Degraded, "control", text, mend)
}

fn file_problems(ConfigurationFile { status, fault }: &ConfigurationFile) -> Vec<Problem> {
    let problem = |code, why: &String, what: &str, mend| {
        let why = first_line(without_path(why, &status.file));
        Problem::new(code, Severity::Degraded, status.file.clone(), format!("{what}: {why}"), mend)
    };
    let fault = fault.iter().map(|why| {
        let what = "Shunt would not start with this file";
        problem("configuration_refused", why, what, "`shunt check FILE` and `shunt doctor FILE` list what is wrong")
    });
    let refusal = status.refusal.iter().map(|why| {
        let what = "it was refused when it was last read, and the configuration accepted before stays in force";
        problem("reload_refused", why, what, "correct the file, then `shunt reload`")
    });
    let key = status.missing_keys.iter().map(|why| {
        problem("key_missing", why, "an agent's reports are refused", "correct its key, then `shunt reload`")
    });
    let unsaved = status.unsaved.then(|| {
        let text = "control can't save what it accepted, and would not start again beside a bad file".to_owned();
        Problem::new("configuration_unsaved", Severity::Degraded, status.file.clone(), text, "make room in /run/shunt")
    });
    fault.chain(refusal).chain(key).chain(unsaved).collect()
}

/// The object already names the file.
fn without_path<'t>(text: &'t str, file: &str) -> &'t str {
    text.strip_prefix(file).and_then(|rest| rest.strip_prefix(':')).map_or(text, str::trim_start)
}

fn first_line(text: &str) -> String {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    match lines.count() {
        0 => first.to_owned(),
        more => format!("{first} (and {more} more)"),
    }
}

fn unaccounted(traffic: &TrafficRow, frames_in_hand: u64) -> Option<Problem> {
    // Frames counted while the counters were read explain neither difference.
    let too_few = u64::try_from(traffic.lowest_difference).is_ok_and(|missing| missing > frames_in_hand);
    let too_many = traffic.difference < 0;
    let text = format!(
        "received less sent, dropped and passed is {}, and {frames_in_hand} frames at most are in hand or were lost with \
         switchers that died",
        if too_many { traffic.difference } else { traffic.lowest_difference }
    );
    let mend = "this is a defect of Shunt: please report it with `shunt status --json` and `shunt drops --json`";
    (too_few || too_many).then(|| Problem::new("frames_unaccounted", Severity::Degraded, "traffic", text, mend))
}

#[cfg(test)]
#[path = "problems_tests.rs"]
mod tests;
