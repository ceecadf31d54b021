//! What a backend last reported, for `shunt backends`; and what became of all reports, for `shunt status`.

use crate::format::duration;
use crate::memory::Memory;
use serde::Serialize;
use shunt_shmlayout::address::BackendId;
use shunt_shmlayout::loads::LoadRecord;
use shunt_shmlayout::report_outcome::ReportOutcome;

/// The last report of a backend.
#[derive(Debug, Serialize)]
pub struct LoadRow {
    /// How long ago it came.
    pub age_ms: u64,
    /// True once it is too old to say anything.
    pub silent: bool,
    /// `up`, or what the server itself says: `drain`, `down`.
    pub says: &'static str,
    /// Why what it says of its load is ignored: `never_listening` or `other_port`; null if it counts.
    pub ignored: Option<&'static str>,
    /// Clients that it serves.
    pub clients: Option<u32>,
    /// Requests that it works on or has waiting.
    pub in_flight: Option<u32>,
    /// Of these, those that didn't come by the switchers, smoothed.
    pub foreign: Option<u32>,
    /// How long a request takes, smoothed.
    pub execution_us: Option<u32>,
    /// Use of its CPU time, thousandths.
    pub cpu_permille: Option<u16>,
    /// Use of its memory, thousandths.
    pub memory_permille: Option<u16>,
    /// Requests ended each second.
    pub requests_per_s: Option<f64>,
    /// Requests that it works on at a time, if that is known.
    pub workers: Option<u32>,
    /// True if that was learnt from its reports.
    pub workers_learnt: bool,
    /// What the master compares: the expected wait of one more request in microseconds; if it doesn't say how long requests
    /// take, those in flight and one; if not even that, CPU use in thousandths.
    pub score: u32,
}

impl LoadRow {
    /// `None` if nobody ever reported about it.
    pub fn read(memory: &Memory, id: BackendId, now_ms: u64) -> Option<Self> {
        let load = memory.control.loads.get(id);
        let said = |flag: u32| load.flags & flag != 0;
        (load.reported_ms != 0).then(|| Self {
            age_ms: now_ms.saturating_sub(load.reported_ms),
            silent: now_ms >= load.expires_ms,
            says: match load.flags {
                flags if flags & LoadRecord::DOWN != 0 => "down",
                flags if flags & LoadRecord::DRAIN != 0 => "drain",
                _ => "up",
            },
            ignored: match load.flags {
                flags if flags & LoadRecord::NEVER_LISTENING != 0 => Some(ReportOutcome::NeverListening.name()),
                flags if flags & LoadRecord::OTHER_PORT != 0 => Some(ReportOutcome::OtherPort.name()),
                _ => None,
            },
            clients: said(LoadRecord::CLIENTS).then_some(load.clients),
            in_flight: said(LoadRecord::IN_FLIGHT).then_some(load.in_flight),
            foreign: said(LoadRecord::IN_FLIGHT).then_some(load.foreign),
            execution_us: (load.execution_us != 0).then_some(load.execution_us),
            cpu_permille: said(LoadRecord::CPU).then_some(load.cpu_permille),
            memory_permille: said(LoadRecord::MEMORY).then_some(load.memory_permille),
            requests_per_s: said(LoadRecord::REQUESTS).then_some(load.requests_per_s_milli as f64 / 1000.0),
            workers: (load.workers != 0).then_some(load.workers),
            workers_learnt: said(LoadRecord::WORKERS_LEARNT),
            score: load.score,
        })
    }

    /// What tells its load best, how many requests it works on at a time ("~" if learnt), and how old the report is.
    pub fn cells(&self) -> [String; 3] {
        let age = duration(self.age_ms);
        let load = match (self.execution_us, self.in_flight.or(self.clients), self.cpu_permille) {
            _ if self.ignored.is_some() => "ignored".to_owned(),
            (Some(_), Some(_), _) => format!("{:.1}ms", f64::from(self.score) / 1000.0),
            (None, Some(in_flight), _) => format!("{in_flight}"),
            (_, None, Some(cpu)) => format!("{:.1}% cpu", f64::from(cpu) / 10.0),
            _ => "-".to_owned(),
        };
        let learnt = if self.workers_learnt { "~" } else { "" };
        let workers = self.workers.map_or_else(|| "-".to_owned(), |workers| format!("{learnt}{workers}"));
        [load, workers, if self.silent { format!("silent {age}") } else { age }]
    }
}

/// How many reports became what.
#[derive(Debug, Serialize)]
pub struct ReportCount {
    /// Its name.
    pub outcome: &'static str,
    /// Since the keeper made the memory.
    pub count: u64,
    /// What it means.
    pub meaning: &'static str,
}

/// Every outcome that there was.
pub fn report_counts(memory: &Memory) -> Vec<ReportCount> {
    let counters = ReportOutcome::ALL.iter().zip(memory.control.reports);
    let counts = counters.map(|(outcome, counter)| ReportCount {
        outcome: outcome.name(),
        count: counter.get(),
        meaning: outcome.meaning(),
    });
    counts.filter(|count| count.count != 0).collect()
}

/// One line, empty where nobody reports.
pub fn report_line(counts: &[ReportCount]) -> String {
    let counts: Vec<String> = counts.iter().map(|count| format!("{} {}", count.outcome, count.count)).collect();
    if counts.is_empty() { String::new() } else { format!("reports: {}\n", counts.join(", ")) }
}
