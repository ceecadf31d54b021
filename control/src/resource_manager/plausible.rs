//! Checks a report against the limits that agents keep ([`ReportedLoad::bounded`]).

use shunt_report::{LoadReport, PERIOD_MS, ReportedLoad};

/// Returns true if a report is within the limits and names each backend once.
pub fn is_plausible(report: &LoadReport) -> bool {
    let repeated =
        |(index, load): (usize, &ReportedLoad)| report.loads[..index].iter().any(|l| l.backend == load.backend);
    PERIOD_MS.contains(&report.period_ms)
        && report.loads.iter().all(ReportedLoad::is_bounded)
        && !report.loads.iter().enumerate().any(repeated)
}
