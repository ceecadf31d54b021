//! `shunt status`: processes, ports, connection table, frame accounting, and problems.

use super::activity::{Counts, Use};
use super::host::HostRow;
use super::load::{ReportCount, report_counts, report_line};
use super::ports::{PortRow, ports};
use super::problems::{
    FaultyHost, FaultyLink, Observed, Problem, Severity, Unfilled, lines, not_running, problems, seen_from_outside,
    worst,
};
use super::processes::{Process, ProcessRow, processes};
use super::state::{State, state};
use crate::admin::{AdminError, ConfigurationFile};
use crate::format::{bytes, duration, or_dash};
use crate::memory::Memory;
use crate::output::Report;
use crate::table::Table;
use serde::Serialize;
use shunt_process::Instance;
use shunt_shmlayout::flip::Active;
use shunt_shmlayout::header::network_namespace;
use shunt_shmlayout::record::Counter;
use shunt_shmlayout::regions::{FRAMES_IN_HAND, InterfaceRecord, SwitcherHead, SwitcherRegion};
use shunt_shmlayout::sync::Ordering;
use std::path::Path;

/// A sample; two of them show how idle each switcher is, and whether it takes a new configuration.
pub struct Sample {
    /// The active configuration epoch.
    epoch: u64,
    /// Turns of each switcher, and idle turns.
    turns: Vec<(u64, u64)>,
}

impl Sample {
    /// Takes a sample.
    pub fn take(memory: &Memory) -> Self {
        let turns = |region: &SwitcherRegion| (region.head.turns.get(), region.head.idle_turns.get());
        Self { epoch: active(memory).epoch(), turns: memory.switchers.iter().map(turns).collect() }
    }

    /// Percentage of the turns since `before` that received nothing; `None` if there was no turn.
    fn idle_percent(&self, before: &Self, number: usize) -> Option<f64> {
        let ((turns, idle), (turns_before, idle_before)) = (self.turns.get(number)?, before.turns.get(number)?);
        let turned = turns.wrapping_sub(*turns_before);
        (turned != 0).then(|| 100.0 * idle.wrapping_sub(*idle_before) as f64 / turned as f64)
    }
}

/// How full the connection table is.
#[derive(Debug, Serialize)]
pub struct ConnectionTableRow {
    /// Entries in use.
    pub live: u64,
    /// Entries of connections in flight: from their first packet to the first FIN or RST.
    pub active: u64,
    /// Entries of connections that are over but not freed yet.
    pub inactive: u64,
    /// True if counted in the table; otherwise computed from counters, which a killed switcher can leave slightly wrong.
    pub exact: bool,
    /// Capacity in entries.
    pub capacity: u64,
    /// Entries evicted because the table was full.
    pub evicted: u64,
}

/// Frame counts by outcome.
#[derive(Debug, Serialize)]
pub struct TrafficRow {
    /// Taken from receive queues.
    pub received: u64,
    /// Placed into transmit queues, answers included.
    pub sent: u64,
    /// Dropped, for any reason.
    pub dropped: u64,
    /// Passed to the kernel.
    pub passed: u64,
    /// Those of the sent frames that Shunt created itself as answers.
    pub answered: u64,
    /// Received minus sent, dropped and passed: 0, except for frames in flight while the counters were read.
    pub difference: i64,
    /// The same with receive counters read first: a lower bound of the frames unaccounted for.
    #[serde(skip)]
    pub lowest_difference: i64,
}

/// The whole status.
#[derive(Debug, Serialize)]
pub struct StatusReport {
    /// Name of the instance.
    pub instance: String,
    /// `healthy`, `degraded` or `not-serving`: the highest severity of the problems.
    pub health: &'static str,
    /// The active configuration epoch; 0 while there is none.
    pub epoch: u64,
    /// When it was published, in milliseconds since 1970; 0 while there is none.
    pub published_ms: u64,
    /// When a reload was last accepted, in milliseconds since 1970; 0 while none was.
    pub reloaded_ms: u64,
    /// Reloads refused since the start.
    pub reloads_refused: u64,
    /// The keeper, control, each switcher, and the interface daemon.
    pub processes: Vec<ProcessRow>,
    /// By interface and switcher.
    pub ports: Vec<PortRow>,
    /// Packets to and from the box's own programs, if a pseudo-interface is configured.
    pub host: Option<HostRow>,
    /// How full the connection table is.
    pub connection_table: ConnectionTableRow,
    /// What became of all frames.
    pub traffic: TrafficRow,
    /// Report counts by outcome.
    pub reports: Vec<ReportCount>,
    /// Problems, the most severe first.
    pub problems: Vec<Problem>,
}

/// Values that are not in shared memory.
#[derive(Default)]
pub struct Outside {
    /// Control's status of the configuration file; `None` if control does not run.
    pub file: Option<Result<ConfigurationFile, AdminError>>,
    /// Interfaces that carry no packets.
    pub links: Vec<FaultyLink>,
    /// The fault of the pseudo-interface, if the box's own programs are not reached through it.
    pub host: Option<FaultyHost>,
}

impl StatusReport {
    /// Computes the status; `before` was sampled a moment ago, `now_ms` is of CLOCK_MONOTONIC.
    pub fn read(memory: &Memory, before: &Sample, outside: &Outside, exact: bool, now_ms: u64) -> Self {
        let Outside { file, links, host } = outside;
        let sample = Sample::take(memory);
        let mut processes = processes(memory, now_ms);
        for row in &mut processes {
            row.idle_percent = row.number.and_then(|number| sample.idle_percent(before, number));
        }
        let (connection_table, traffic) = (connection_table(memory, exact), traffic(memory));
        let State { services, down, declined, unreachable } = state(memory);
        let problems = problems(&Observed {
            processes: &processes,
            epoch: before.epoch,
            services: &services,
            backends_down: &down,
            backends_declined: &declined,
            backends_unreachable: &unreachable,
            connection_table: &connection_table,
            traffic: &traffic,
            frames_in_hand: frames_in_hand(memory),
            links,
            outside: seen_from_outside(&processes, std::process::id(), network_namespace),
            host: host.as_ref(),
            unfilled: &unfilled(memory, now_ms),
            configuration: file.as_ref(),
        });
        let (control, active) = (&memory.control, active(memory));
        Self {
            instance: memory.instance.to_string(),
            health: health(&problems),
            epoch: active.epoch(),
            published_ms: control.generations[active.buffer()].head.published_ms.get(),
            reloaded_ms: control.head.reloaded_ms.get(),
            reloads_refused: control.head.reloads_refused.get(),
            processes,
            ports: ports(memory),
            host: HostRow::read(memory),
            connection_table,
            traffic,
            reports: report_counts(memory),
            problems,
        }
    }
}

fn active(memory: &Memory) -> Active {
    Active(memory.control.head.active.load(Ordering::Acquire)) // pairs with flip::publish()
}

fn health(problems: &[Problem]) -> &'static str {
    match worst(problems) {
        None | Some(Severity::Notice) => "healthy",
        Some(Severity::Degraded) => "degraded",
        Some(Severity::NotServing) => "not-serving",
    }
}

/// Frames held by living switchers, and by killed ones when they died.
fn frames_in_hand(memory: &Memory) -> u64 {
    let lives = memory.switchers.iter().map(|region| region.head.generation.get());
    lives.fold(0, u64::saturating_add).saturating_mul(FRAMES_IN_HAND)
}

fn unfilled(memory: &Memory, now_ms: u64) -> Vec<Unfilled> {
    let last = |id: u16| {
        let counters = memory.switchers.iter().filter_map(|region| region.interfaces.get(usize::from(id)));
        counters.map(|counters| counters.unfilled_ms.get()).max().filter(|last_ms| *last_ms != 0)
    };
    let unfilled = |(id, record): (_, InterfaceRecord)| {
        let (interface, age_ms) = (record.name.to_string(), now_ms.saturating_sub(last(id)?));
        Some(Unfilled { interface, age_ms, has_clients: record.side()?.has_clients() })
    };
    memory.keeper.interfaces().filter_map(unfilled).collect()
}

fn sum(memory: &Memory, counter: fn(&SwitcherHead) -> &Counter) -> u64 {
    memory.switchers.iter().map(|region| counter(region.head).get()).fold(0, u64::wrapping_add)
}

fn connection_table(memory: &Memory, exact: bool) -> ConnectionTableRow {
    let Counts { active, inactive } =
        if exact { Use::of(&memory.connections).total } else { Counts::counted(&memory.switchers) };
    let (live, capacity) = (active + inactive, memory.connections.capacity() as u64);
    ConnectionTableRow { live, active, inactive, exact, capacity, evicted: sum(memory, |head| &head.evicted) }
}

fn traffic(memory: &Memory) -> TrafficRow {
    // Read before and after: frames received meanwhile lie between the two.
    let first = sum(memory, |head| &head.received);
    let drops = memory.switchers.iter().flat_map(|region| &region.head.drops);
    let dropped = drops.map(Counter::get).fold(0, u64::wrapping_add);
    let (sent, passed) = (sum(memory, |head| &head.sent), sum(memory, |head| &head.passed));
    let received = sum(memory, |head| &head.received);
    let difference = |received: u64| received.wrapping_sub(sent.wrapping_add(dropped).wrapping_add(passed)) as i64;
    TrafficRow {
        received,
        sent,
        dropped,
        passed,
        answered: sum(memory, |head| &head.answered),
        difference: difference(received),
        lowest_difference: difference(first),
    }
}

fn process_table(rows: &[ProcessRow], active: u64) -> Table {
    let mut table = Table::new(["PROCESS", ">PID", "STATE", ">HEARTBEAT", ">CPU", "EPOCH", ">IDLE"]);
    for row in rows {
        let epoch = match row.epoch {
            0 if row.process == Process::Ifdaemon => "-".to_owned(),
            epoch if epoch == active => epoch.to_string(),
            epoch => format!("{epoch} (active {active})"),
        };
        table.row([
            row.name(),
            or_dash(row.pid),
            row.state.name().into(),
            or_dash(row.heartbeat_age_ms.map(duration)),
            or_dash(row.cpu),
            epoch,
            or_dash(row.idle_percent.map(|percent| format!("{percent:.0}%"))),
        ]);
    }
    table
}

fn port_table(rows: &[PortRow]) -> Table {
    let mut table = Table::new([
        "INTERFACE",
        "QUEUES",
        ">SWITCHER",
        "KIND",
        "MODE",
        ">RECEIVED",
        ">BYTES",
        ">SENT",
        ">BYTES",
        ">MISSED",
        ">ERRORS",
    ]);
    for row in rows {
        let (kind, mode) = row.how();
        let numbers = [row.missed, row.errors].map(|n| n.to_string());
        let traffic =
            [row.received.to_string(), bytes(row.bytes_received), row.sent.to_string(), bytes(row.bytes_sent)];
        let cells = [row.interface.clone(), row.queue_list(), row.switcher.to_string(), kind, mode];
        table.row(cells.into_iter().chain(traffic).chain(numbers));
    }
    table
}

impl TrafficRow {
    fn line(&self) -> String {
        let Self { received, sent, dropped, passed, answered, difference, .. } = self;
        let verdict = match difference {
            0 => "balanced".to_owned(),
            n => format!("difference {n:+}, of frames in hand meanwhile (if it stays without traffic, some are lost)"),
        };
        format!(
            "received {received} = sent {sent} ({answered} of them answers) + dropped {dropped} + passed {passed}: {verdict}"
        )
    }
}

impl Report for StatusReport {
    fn text(&self) -> String {
        let table = &self.connection_table;
        let estimate = if table.exact { "counted" } else { "by counters" };
        let mut text = format!(
            "instance {} is {}, configuration epoch {}, reloads refused {}\n\n{}\n{}\n",
            self.instance,
            self.health.replace('-', " "),
            self.epoch,
            self.reloads_refused,
            process_table(&self.processes, self.epoch),
            port_table(&self.ports),
        );
        if let Some(host) = &self.host {
            text += &format!("{}\n", host.text());
        }
        text += &format!(
            "connections: {} active, {} inactive of {} ({estimate}), evicted {}\n{}\n",
            table.active,
            table.inactive,
            table.capacity,
            table.evicted,
            self.traffic.line(),
        );
        text += &report_line(&self.reports);
        text + &lines(&self.problems)
    }
}

/// The status of an instance without shared memory.
#[derive(Debug, Serialize)]
pub struct AbsentReport {
    instance: String,
    health: &'static str,
    problems: Vec<Problem>,
}

/// The result of `shunt status`.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum StatusView {
    /// The shared memory exists.
    Present(Box<StatusReport>),
    /// It does not exist.
    Absent(AbsentReport),
}

impl StatusView {
    /// The result for an instance without shared memory.
    pub fn absent(instance: &Instance, missing: &Path, advice: &str) -> Self {
        let text = format!("it does not run: there is no {}", missing.display());
        let problems = vec![not_running(instance.as_str(), text, advice)];
        Self::Absent(AbsentReport { instance: instance.to_string(), health: health(&problems), problems })
    }

    /// The highest severity.
    pub fn worst(&self) -> Option<Severity> {
        worst(match self {
            Self::Present(report) => &report.problems,
            Self::Absent(report) => &report.problems,
        })
    }
}

impl Report for StatusView {
    fn text(&self) -> String {
        match self {
            Self::Present(report) => report.text(),
            Self::Absent(report) => lines(&report.problems),
        }
    }
}
