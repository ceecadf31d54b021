//! What a server can say of itself. Beyond these bounds an agent is broken or lies, and its report is dropped whole: a
//! part of it would be as wrong.

use shunt_agent::report::{Load, PERIOD_MS, Report};

/// More requests or clients than a server of today has at a time.
const MOST_AT_A_TIME: u32 = 10_000_000;
/// An hour.
const LONGEST_EXECUTION_US: u32 = 3_600_000_000;
/// Requests at work are fewer than those in flight; this is as many in thousandths.
const MOST_AT_A_TIME_MILLI: u32 = 4_000_000_000;
/// Ten million a second.
const MOST_REQUESTS_PER_S_MILLI: u64 = 10_000_000_000;
/// All of it.
const WHOLE_PERMILLE: u16 = 1000;

/// Whether a report says nothing that can't be.
pub fn is_plausible(report: &Report) -> bool {
    let repeated = |(index, load): (usize, &Load)| report.loads[..index].iter().any(|l| l.backend == load.backend);
    PERIOD_MS.contains(&report.period_ms)
        && report.loads.iter().all(can_be)
        && !report.loads.iter().enumerate().any(repeated)
}

fn can_be(load: &Load) -> bool {
    load.clients.is_none_or(|clients| clients <= MOST_AT_A_TIME)
        && load.in_flight.is_none_or(|in_flight| in_flight <= MOST_AT_A_TIME)
        && load.cpu_permille.is_none_or(|cpu| cpu <= WHOLE_PERMILLE)
        && load.memory_permille.is_none_or(|memory| memory <= WHOLE_PERMILLE)
        && load.execution_us.is_none_or(|execution| execution <= LONGEST_EXECUTION_US)
        && load.workers.is_none_or(|workers| (1..=MOST_AT_A_TIME).contains(&workers))
        && load.busy_milli.is_none_or(|busy| busy <= MOST_AT_A_TIME_MILLI)
        && load.requests_per_s_milli.is_none_or(|requests| requests <= MOST_REQUESTS_PER_S_MILLI)
}
