//! Whether a report says nothing that can't be, by the limits that agents keep ([`Load::bounded`]).

use shunt_report::{Load, PERIOD_MS, Report};

/// Whether a report is within the limits, and names each backend once.
pub fn is_plausible(report: &Report) -> bool {
    let repeated = |(index, load): (usize, &Load)| report.loads[..index].iter().any(|l| l.backend == load.backend);
    PERIOD_MS.contains(&report.period_ms)
        && report.loads.iter().all(Load::is_bounded)
        && !report.loads.iter().enumerate().any(repeated)
}
