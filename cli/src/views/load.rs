//! Backends' last reports, for `shunt backends`; and the count of all reports by outcome, for `shunt status`.

use crate::format::duration;
use crate::memory::Memory;
use serde::Serialize;
use shunt_shmlayout::address::BackendId;
use shunt_shmlayout::loads::LoadRecord;
use shunt_shmlayout::report_outcome::ReportOutcome;

/// The last report of a backend.
#[derive(Debug, Serialize)]
pub struct LoadRow {
    /// Its age in milliseconds.
    pub age_ms: u64,
    /// True if it is too old to be used.
    pub silent: bool,
    /// `up`, or the server's own state: `drain`, `down`.
    pub says: &'static str,
    /// Why its load is ignored: `never_listening` or `other_port`; null if it is used.
    pub ignored: Option<&'static str>,
    /// Connected clients.
    pub clients: Option<u32>,
    /// Requests being processed or queued.
    pub in_flight: Option<u32>,
    /// Those of them that did not come through the switchers, smoothed.
    pub foreign: Option<u32>,
    /// Execution time of a request, smoothed.
    pub execution_us: Option<u32>,
    /// CPU use in thousandths.
    pub cpu_permille: Option<u16>,
    /// Memory use in thousandths.
    pub memory_permille: Option<u16>,
    /// Completed requests per second.
    pub requests_per_s: Option<f64>,
    /// Number of concurrent requests, if known.
    pub workers: Option<u32>,
    /// True if that number was learnt from its reports.
    pub workers_learnt: bool,
    /// The value that the master compares: the expected wait of one more request in microseconds; without execution times,
    /// requests in flight plus one; without those, CPU use in thousandths.
    pub score: u32,
}

impl LoadRow {
    /// `None` if no report about it ever arrived.
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

    /// The most informative load value, the number of workers ("~" if learnt), and the report's age.
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

/// Number of reports with one outcome.
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
