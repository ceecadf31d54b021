//! `shunt drops`.

use super::host::daemon_drops;
use crate::cli::memory::Memory;
use crate::cli::output::Report;
use crate::cli::table::Table;
use serde::Serialize;
use shunt_shmlayout::drop_reason::DropReason;

/// Frames dropped for one reason.
#[derive(Debug, Serialize)]
pub struct DropRow {
    /// The reason's name.
    pub reason: &'static str,
    /// Frames of all switchers, or packets of the interface daemon (`host_...`).
    pub count: u64,
    /// By switcher; none of them for what the interface daemon dropped.
    pub per_switcher: Vec<u64>,
    /// What the reason means.
    pub meaning: &'static str,
}

/// Frames dropped, by reason.
#[derive(Debug, Serialize)]
pub struct DropsReport {
    /// Of all reasons.
    pub total: u64,
    /// Most first.
    pub drops: Vec<DropRow>,
    /// Whether the text has a column for each switcher.
    #[serde(skip)]
    pub per_switcher: bool,
}

impl DropsReport {
    /// Reads them; with `all`, reasons that never occurred too.
    pub fn read(memory: &Memory, all: bool, per_switcher: bool) -> Self {
        let mut drops: Vec<DropRow> = DropReason::ALL.iter().map(|reason| row(memory, *reason)).collect();
        drops.extend(memory.host.iter().flat_map(daemon_drops).map(|(reason, count)| DropRow {
            reason: reason.name(),
            count,
            per_switcher: vec![0; memory.switchers.len()],
            meaning: reason.meaning(),
        }));
        drops.retain(|row| all || row.count != 0);
        drops.sort_by_key(|row| std::cmp::Reverse(row.count));
        Self { total: drops.iter().map(|row| row.count).sum(), drops, per_switcher }
    }
}

fn row(memory: &Memory, reason: DropReason) -> DropRow {
    let count = |region: &shunt_shmlayout::regions::SwitcherRegion| region.head.drops[reason as usize].get();
    let per_switcher: Vec<u64> = memory.switchers.iter().map(count).collect();
    DropRow { reason: reason.name(), count: per_switcher.iter().sum(), per_switcher, meaning: reason.meaning() }
}

impl Report for DropsReport {
    fn text(&self) -> String {
        if self.drops.is_empty() {
            return "nothing was dropped\n".to_owned();
        }
        let switchers = if self.per_switcher { self.drops[0].per_switcher.len() } else { 0 };
        let columns: Vec<String> = (0..switchers).map(|number| format!(">SWITCHER {number}")).collect();
        let titles = ["REASON", ">COUNT"].into_iter().chain(columns.iter().map(String::as_str)).chain(["MEANING"]);
        let mut table = Table::new(titles);
        for row in &self.drops {
            let each = row.per_switcher.iter().take(switchers).map(u64::to_string);
            table.row([row.reason.into(), row.count.to_string()].into_iter().chain(each).chain([row.meaning.into()]));
        }
        format!("{table}{} dropped\n", self.total)
    }
}
