//! The state of an instance's processes, from shared memory and the system's process table.

use crate::memory::{HostMemory, Memory};
use serde::Serialize;
use shunt_shmlayout::flip::Active;
use shunt_shmlayout::header::is_alive;
use shunt_shmlayout::regions::SwitcherRecord;
use shunt_shmlayout::sync::Ordering;

/// Age of the heartbeat above which a living process is stuck: it turns many times per second.
const SILENT_AFTER_MS: u64 = 2000;

/// The programs that an instance consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Process {
    /// `shunt-keeper`.
    Keeper,
    /// `shunt-control`.
    Control,
    /// `shunt-switcher`.
    Switcher,
    /// `shunt-ifdaemon`.
    Ifdaemon,
}

impl Process {
    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keeper => "keeper",
            Self::Control => "control",
            Self::Switcher => "switcher",
            Self::Ifdaemon => "ifdaemon",
        }
    }
}

/// State of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessState {
    /// It lives and its loop turns.
    Running,
    /// It lives, but its loop does not turn.
    Silent,
    /// It died.
    Dead,
    /// It never ran.
    Absent,
}

impl ProcessState {
    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Silent => "silent",
            Self::Dead => "dead",
            Self::Absent => "absent",
        }
    }
}

/// One process.
#[derive(Debug, Serialize)]
pub struct ProcessRow {
    /// Which program.
    pub process: Process,
    /// Number of the switcher.
    pub number: Option<usize>,
    /// Its process id, or the last one.
    pub pid: Option<u64>,
    /// Its state.
    pub state: ProcessState,
    /// Milliseconds since its last turn.
    pub heartbeat_age_ms: Option<u64>,
    /// The CPU that a switcher is pinned to.
    pub cpu: Option<u32>,
    /// Its configuration epoch: for control the active one, for the keeper the one whose addresses are in the maps. The
    /// interface daemon has none, 0.
    pub epoch: u64,
    /// Share of turns that received nothing, while `shunt status` sampled.
    pub idle_percent: Option<f64>,
    /// Number of processes that have had a switcher's or the interface daemon's region.
    pub generation: Option<u64>,
}

impl ProcessRow {
    /// `keeper`, `switcher 0`.
    pub fn name(&self) -> String {
        let name = self.process.name();
        self.number.map_or_else(|| name.to_owned(), |number| format!("{name} {number}"))
    }
}

/// A process's record: pid, start time, heartbeat.
struct Trace {
    pid: u64,
    start_time: u64,
    heartbeat_ms: u64,
}

impl Trace {
    fn state(&self, now_ms: u64) -> ProcessState {
        if self.pid == 0 {
            return ProcessState::Absent;
        }
        if !is_alive(self.pid, self.start_time) {
            return ProcessState::Dead;
        }
        let silent = now_ms.saturating_sub(self.heartbeat_ms) > SILENT_AFTER_MS;
        if silent { ProcessState::Silent } else { ProcessState::Running }
    }

    fn row(&self, process: Process, epoch: u64, now_ms: u64) -> ProcessRow {
        ProcessRow {
            process,
            number: None,
            pid: (self.pid != 0).then_some(self.pid),
            state: self.state(now_ms),
            heartbeat_age_ms: (self.heartbeat_ms != 0).then(|| now_ms.saturating_sub(self.heartbeat_ms)),
            cpu: None,
            epoch,
            idle_percent: None,
            generation: None,
        }
    }
}

/// The keeper, control, each switcher, and the interface daemon if it is needed.
pub fn processes(memory: &Memory, now_ms: u64) -> Vec<ProcessRow> {
    let (keeper, control) = (memory.keeper.head, memory.control.head);
    let of_keeper =
        Trace { pid: keeper.pid.get(), start_time: keeper.start_time.get(), heartbeat_ms: keeper.heartbeat_ms.get() };
    let of_control = Trace {
        pid: control.pid.get(),
        start_time: control.start_time.get(),
        heartbeat_ms: control.heartbeat_ms.get(),
    };
    let owned = Active(keeper.owned.load(Ordering::Relaxed)).epoch();
    let active = Active(control.active.load(Ordering::Relaxed)).epoch();
    let mut rows =
        vec![of_keeper.row(Process::Keeper, owned, now_ms), of_control.row(Process::Control, active, now_ms)];
    rows.extend((0..memory.switchers.len()).map(|number| switcher(memory, number, now_ms)));
    rows.extend(memory.host.as_ref().map(|host| ifdaemon(host, now_ms)));
    rows
}

fn switcher(memory: &Memory, number: usize, now_ms: u64) -> ProcessRow {
    let head = memory.switchers[number].head;
    let trace = Trace { pid: head.pid.get(), start_time: head.start_time.get(), heartbeat_ms: head.heartbeat_ms.get() };
    let record: SwitcherRecord = memory.keeper.switchers[number].load();
    ProcessRow {
        number: Some(number),
        cpu: Some(record.cpu),
        generation: Some(head.generation.get()),
        ..trace.row(Process::Switcher, Active(head.in_use.load(Ordering::Relaxed)).epoch(), now_ms)
    }
}

fn ifdaemon(host: &HostMemory, now_ms: u64) -> ProcessRow {
    let head = host.daemon.head;
    let trace = Trace { pid: head.pid.get(), start_time: head.start_time.get(), heartbeat_ms: head.heartbeat_ms.get() };
    ProcessRow { generation: Some(head.generation.get()), ..trace.row(Process::Ifdaemon, 0, now_ms) }
}
