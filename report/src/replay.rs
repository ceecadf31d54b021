//! The replay window: control keeps one for each agent and consults it after verifying the tag, so that a forged datagram
//! cannot move it. The window follows RFC 4303 section 3.4.3, with the agent's start time before the sequence number, so
//! that a restarted agent may count from 1 again.

use super::{LoadReport, ReportRefusal};

/// How far an agent's start time may be ahead of control's clock: the clock skew that Kerberos allows (RFC 4120 section
/// 8.2, 5 minutes). Too high: an agent whose clock was ahead once is refused as stale for that long after its next start.
/// Too low: usual clock skew causes refusals.
pub const MOST_AHEAD_US: u64 = 5 * 60 * 1_000_000;

/// Width of the window: reports that may be reordered in the network.
const WIDTH: u64 = 64;

/// Order of an admitted report relative to earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The newest report so far.
    Newest,
    /// Reordered: authentic, but out of date.
    Late,
}

/// The newest report of an agent, and which of the 64 reports up to it were received.
#[derive(Debug, Clone, Default)]
pub struct ReplayWindow {
    boot_epoch: u64,
    newest: u64,
    /// Bit n: sequence number `newest - n` was received.
    came: u64,
}

impl ReplayWindow {
    /// Advances to the last report that a predecessor admitted. A window that is at least as far stays unchanged.
    pub fn resume(&mut self, (boot_epoch, newest): (u64, u64)) {
        if (boot_epoch, newest) > (self.boot_epoch, self.newest) {
            *self = Self { boot_epoch, newest, came: u64::MAX };
        }
    }

    /// Admits an authentic report once. `wall_us` is the wall clock, microseconds since 1970; it is checked only for a new
    /// run.
    pub fn admit(&mut self, report: &LoadReport, wall_us: u64) -> Result<Arrival, ReportRefusal> {
        let LoadReport { boot_epoch, sequence, .. } = *report;
        if boot_epoch < self.boot_epoch {
            return Err(ReportRefusal::Stale);
        }
        if boot_epoch > self.boot_epoch && boot_epoch > wall_us.saturating_add(MOST_AHEAD_US) {
            return Err(ReportRefusal::EpochAhead);
        }
        if boot_epoch > self.boot_epoch {
            *self = Self { boot_epoch, newest: sequence, came: 1 };
            return Ok(Arrival::Newest);
        }
        if sequence > self.newest {
            let ahead = sequence - self.newest;
            self.came = if ahead < WIDTH { self.came << ahead | 1 } else { 1 };
            self.newest = sequence;
            return Ok(Arrival::Newest);
        }
        let behind = self.newest - sequence;
        if behind >= WIDTH {
            return Err(ReportRefusal::Stale);
        }
        let bit = 1 << behind;
        if self.came & bit != 0 {
            return Err(ReportRefusal::Replayed);
        }
        self.came |= bit;
        Ok(Arrival::Late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn report(boot_epoch: u64, sequence: u64) -> LoadReport {
        LoadReport { agent: "a".parse().unwrap(), boot_epoch, sequence, period_ms: 50, loads: Vec::new() }
    }

    #[test]
    fn each_report_is_admitted_once() {
        let mut window = ReplayWindow::default();
        assert_eq!(window.admit(&report(7, 1), 0), Ok(Arrival::Newest));
        assert_eq!(window.admit(&report(7, 1), 0), Err(ReportRefusal::Replayed));
        assert_eq!(window.admit(&report(7, 3), 0), Ok(Arrival::Newest));
        assert_eq!(window.admit(&report(7, 2), 0), Ok(Arrival::Late));
        assert_eq!(window.admit(&report(7, 2), 0), Err(ReportRefusal::Replayed));
        assert_eq!(window.admit(&report(7, 66), 0), Ok(Arrival::Newest));
        assert_eq!(window.admit(&report(7, 3), 0), Err(ReportRefusal::Replayed), "63 behind");
        assert_eq!(window.admit(&report(7, 2), 0), Err(ReportRefusal::Stale), "64 behind");
    }

    #[test]
    fn an_earlier_run_is_stale_and_a_later_one_counts_anew() {
        let mut window = ReplayWindow::default();
        window.admit(&report(7, 1_000_000), 0).unwrap();
        assert_eq!(window.admit(&report(6, 2_000_000), 0), Err(ReportRefusal::Stale));
        assert_eq!(window.admit(&report(8, 1), 0), Ok(Arrival::Newest));
        assert_eq!(window.admit(&report(7, 1_000_001), 0), Err(ReportRefusal::Stale));
    }

    #[test]
    fn a_run_from_the_future_moves_nothing_and_the_next_one_counts() {
        let (mut window, wall_us) = (ReplayWindow::default(), 1_795_000_000_000_000);
        let year_us = 365 * 86_400 * 1_000_000;
        assert_eq!(window.admit(&report(wall_us - 7, 5), wall_us), Ok(Arrival::Newest));
        assert_eq!(window.admit(&report(wall_us + year_us, 1), wall_us), Err(ReportRefusal::EpochAhead));
        assert_eq!(window.admit(&report(wall_us - 7, 6), wall_us), Ok(Arrival::Newest), "the run before goes on");
        let ahead = wall_us + MOST_AHEAD_US;
        assert_eq!(window.admit(&report(ahead + 1, 1), wall_us), Err(ReportRefusal::EpochAhead));
        assert_eq!(window.admit(&report(ahead, 1), wall_us), Ok(Arrival::Newest));
        assert_eq!(
            window.admit(&report(ahead, 2), wall_us - year_us),
            Ok(Arrival::Newest),
            "control's clock was set back"
        );
        assert_eq!(window.admit(&report(wall_us, 1), wall_us), Err(ReportRefusal::Stale), "replays stay out");
        assert_eq!(
            window.admit(&report(ahead + 2, 1), wall_us + 2),
            Ok(Arrival::Newest),
            "no later than after the bound"
        );
    }

    #[test]
    fn a_resumed_window_goes_on_with_the_next_report() {
        let mut window = ReplayWindow::default();
        window.resume((7, 9));
        for sequence in [9, 8, 1] {
            assert_eq!(window.admit(&report(7, sequence), 0), Err(ReportRefusal::Replayed));
        }
        assert_eq!(window.admit(&report(6, 10), 0), Err(ReportRefusal::Stale));
        assert_eq!(window.admit(&report(7, 10), 0), Ok(Arrival::Newest), "whatever the clock says");
        assert_eq!(window.admit(&report(7, 12), 0), Ok(Arrival::Newest));
        window.resume((7, 12));
        assert_eq!(window.admit(&report(7, 11), 0), Ok(Arrival::Late), "it was as far already");
        window.resume((8, 0));
        assert_eq!(window.admit(&report(8, 1), 0), Ok(Arrival::Newest), "killed before the run's first one counted");
    }

    proptest! {
        /// A set that forgets nothing is the model: what it has, the window never admits.
        #[test]
        fn nothing_is_admitted_twice(sent in prop::collection::vec((0..3_u64, prop_oneof![1..200_u64, 1..=u64::MAX]), 0..300)) {
            let (mut window, mut came) = (ReplayWindow::default(), HashSet::new());
            for (boot_epoch, sequence) in sent {
                let newest = came.iter().max().copied();
                match window.admit(&report(boot_epoch, sequence), 0) {
                    Ok(arrival) => {
                        prop_assert!(came.insert((boot_epoch, sequence)), "twice: {boot_epoch} {sequence}");
                        let is_newest = newest.is_none_or(|newest| newest < (boot_epoch, sequence));
                        prop_assert_eq!(arrival == Arrival::Newest, is_newest);
                    }
                    Err(ReportRefusal::Replayed) => prop_assert!(came.contains(&(boot_epoch, sequence))),
                    Err(refusal) => {
                        prop_assert_eq!(refusal, ReportRefusal::Stale);
                        prop_assert!(newest.is_some_and(|(epoch, newest)| epoch > boot_epoch || newest - sequence >= WIDTH));
                    }
                }
            }
        }
    }
}
