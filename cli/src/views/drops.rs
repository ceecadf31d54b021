//! `shunt drops`.

use super::host::daemon_drops;
use crate::memory::Memory;
use crate::output::Report;
use crate::table::Table;
use serde::Serialize;
use shunt_shmlayout::drop_reason::DropReason;
use shunt_shmlayout::notice::Notice;
use shunt_shmlayout::regions::SwitcherRegion;

/// Frames dropped or refused for one reason.
#[derive(Debug, Serialize)]
pub struct DropRow {
    /// The reason's name.
    pub reason: &'static str,
    /// Frames that all switchers dropped, or packets that the interface daemon dropped (`host_...`).
    pub count: u64,
    /// Frames that the switchers refused with a reset or an ICMP error.
    pub answered: u64,
    /// Dropped plus refused, by switcher; empty for the interface daemon.
    pub per_switcher: Vec<u64>,
    /// What the reason means.
    pub meaning: &'static str,
}

/// A notable event that is not a drop, and its count.
#[derive(Debug, Serialize)]
pub struct NoticeRow {
    /// Its name.
    pub notice: &'static str,
    /// Its count.
    pub count: u64,
    /// What it means.
    pub meaning: &'static str,
}

/// Frames dropped and refused, by reason, and notable events.
#[derive(Debug, Serialize)]
pub struct DropsReport {
    /// Frames dropped, for all reasons.
    pub total: u64,
    /// Frames refused with an answer, for all reasons.
    pub answered: u64,
    /// Refusals without an answer, because of their source's rate limit. Included in `total`.
    pub unanswered: u64,
    /// By reason, highest count first.
    pub drops: Vec<DropRow>,
    /// Events that are not drops.
    pub notices: Vec<NoticeRow>,
    /// Whether the text has a column for each switcher.
    #[serde(skip)]
    pub per_switcher: bool,
}

/// Counted by control, not by a switcher, because switchers never see such packets.
const OWN_CALL: (&str, &str) = (
    "own_call",
    "A program of the box called a service's address. Its kernel asks the link for it, where nobody answers, least of all \
     Shunt. Configure [host] with host.routes, or call a back-end directly.",
);

impl DropsReport {
    /// Reads the counters; with `all`, includes reasons with count 0.
    pub fn read(memory: &Memory, all: bool, per_switcher: bool) -> Self {
        let mut drops: Vec<DropRow> = DropReason::ALL.iter().map(|reason| row(memory, *reason)).collect();
        drops.extend(memory.host.iter().flat_map(daemon_drops).map(|(reason, count)| DropRow {
            reason: reason.name(),
            count,
            answered: 0,
            per_switcher: vec![0; memory.switchers.len()],
            meaning: reason.meaning(),
        }));
        drops.retain(|row| all || row.count + row.answered != 0);
        drops.sort_by_key(|row| std::cmp::Reverse(row.count + row.answered));
        let mut notices = notices(memory);
        notices.retain(|row| all || row.count != 0);
        Self {
            total: drops.iter().map(|row| row.count).sum(),
            answered: drops.iter().map(|row| row.answered).sum(),
            unanswered: memory.switchers.iter().map(|region| region.head.unanswered.get()).sum(),
            drops,
            notices,
            per_switcher,
        }
    }
}

fn row(memory: &Memory, reason: DropReason) -> DropRow {
    let dropped = |region: &SwitcherRegion| region.head.drops[reason as usize].get();
    let answered = |region: &SwitcherRegion| region.head.refused[reason as usize].get();
    DropRow {
        reason: reason.name(),
        count: memory.switchers.iter().map(dropped).sum(),
        answered: memory.switchers.iter().map(answered).sum(),
        per_switcher: memory.switchers.iter().map(|region| dropped(region) + answered(region)).collect(),
        meaning: reason.meaning(),
    }
}

fn notices(memory: &Memory) -> Vec<NoticeRow> {
    let count = |notice: Notice| memory.switchers.iter().map(|region| region.head.notices[notice as usize].get()).sum();
    let row = |notice: &Notice| NoticeRow { notice: notice.name(), count: count(*notice), meaning: notice.meaning() };
    let (notice, meaning) = OWN_CALL;
    let own_call = NoticeRow { notice, count: memory.control.head.own_calls.get(), meaning };
    Notice::ALL.iter().map(row).chain([own_call]).collect()
}

impl DropsReport {
    fn reasons(&self) -> String {
        if self.drops.is_empty() {
            return "nothing was dropped\n".to_owned();
        }
        let switchers = if self.per_switcher { self.drops[0].per_switcher.len() } else { 0 };
        let columns: Vec<String> = (0..switchers).map(|number| format!(">SWITCHER {number}")).collect();
        let titles = ["REASON", ">DROPPED", ">ANSWERED"].into_iter().chain(columns.iter().map(String::as_str));
        let mut table = Table::new(titles.chain(["MEANING"]));
        for row in &self.drops {
            let each = row.per_switcher.iter().take(switchers).map(u64::to_string);
            let counts = [row.count, row.answered].map(|count| count.to_string());
            table.row([row.reason.into()].into_iter().chain(counts).chain(each).chain([row.meaning.into()]));
        }
        let Self { total, answered, unanswered, .. } = self;
        let unanswered = match unanswered {
            0 => String::new(),
            count => format!(" ({count} of them unanswered: rate limit of the source)"),
        };
        format!("{table}{total} dropped{unanswered}, {answered} refused with an answer\n")
    }
}

impl Report for DropsReport {
    fn text(&self) -> String {
        let mut text = self.reasons();
        if !self.notices.is_empty() {
            let mut table = Table::new(["NOTICE", ">COUNT", "MEANING"]);
            for row in &self.notices {
                table.row([row.notice.into(), row.count.to_string(), row.meaning.into()]);
            }
            text += &format!("\n{table}");
        }
        text
    }
}
