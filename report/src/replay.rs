//! Which reports of one agent came before: control keeps one of these for each agent, and asks it after the tag was found
//! right, for a forged datagram must not move it. The window is RFC 4303 section 3.4.3's, with the agent's start before
//! the sequence number, so that a started agent may count from 1 again.

use super::{Refusal, Report};

/// How far ahead of control's clock an agent may say that it started: as far as Kerberos lets clocks be apart (RFC 4120
/// section 8.2, 5 minutes). Too far, and an agent whose clock was ahead once is taken for an earlier run of itself for as
/// long afterwards; too near, and usual differences between clocks refuse agents.
pub const MOST_AHEAD_US: u64 = 5 * 60 * 1_000_000;

/// Reports that may overtake each other on the way.
const WIDTH: u64 = 64;

/// How a report that is admitted stands to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The newest so far.
    Newest,
    /// Overtaken on the way: genuine, but what it says is out of date.
    Late,
}

/// The newest report of an agent, and which of the 64 up to it came.
#[derive(Debug, Clone, Default)]
pub struct ReplayWindow {
    boot_epoch: u64,
    newest: u64,
    /// Bit n: number `newest - n` came.
    came: u64,
}

impl ReplayWindow {
    /// Takes over that a predecessor admitted this report of this run, and any before it. A window that is as far stays.
    pub fn resume(&mut self, (boot_epoch, newest): (u64, u64)) {
        if (boot_epoch, newest) > (self.boot_epoch, self.newest) {
            *self = Self { boot_epoch, newest, came: u64::MAX };
        }
    }

    /// Admits an authentic report once, while the clock says `wall_us` (microseconds since 1970). A run that goes on is
    /// admitted whatever the clock says by now.
    pub fn admit(&mut self, report: &Report, wall_us: u64) -> Result<Arrival, Refusal> {
        let Report { boot_epoch, sequence, .. } = *report;
        if boot_epoch < self.boot_epoch {
            return Err(Refusal::Stale);
        }
        if boot_epoch > self.boot_epoch && boot_epoch > wall_us.saturating_add(MOST_AHEAD_US) {
            return Err(Refusal::EpochAhead);
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
            return Err(Refusal::Stale);
        }
        let bit = 1 << behind;
        if self.came & bit != 0 {
            return Err(Refusal::Replayed);
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

    fn report(boot_epoch: u64, sequence: u64) -> Report {
        Report { agent: "a".parse().unwrap(), boot_epoch, sequence, period_ms: 50, loads: Vec::new() }
    }

    #[test]
    fn each_report_is_admitted_once() {
        let mut window = ReplayWindow::default();
        assert_eq!(window.admit(&report(7, 1), 0), Ok(Arrival::Newest));
        assert_eq!(window.admit(&report(7, 1), 0), Err(Refusal::Replayed));
        assert_eq!(window.admit(&report(7, 3), 0), Ok(Arrival::Newest));
        assert_eq!(window.admit(&report(7, 2), 0), Ok(Arrival::Late));
        assert_eq!(window.admit(&report(7, 2), 0), Err(Refusal::Replayed));
        assert_eq!(window.admit(&report(7, 66), 0), Ok(Arrival::Newest));
        assert_eq!(window.admit(&report(7, 3), 0), Err(Refusal::Replayed), "63 behind");
        assert_eq!(window.admit(&report(7, 2), 0), Err(Refusal::Stale), "64 behind");
    }

    #[test]
    fn an_earlier_run_is_stale_and_a_later_one_counts_anew() {
        let mut window = ReplayWindow::default();
        window.admit(&report(7, 1_000_000), 0).unwrap();
        assert_eq!(window.admit(&report(6, 2_000_000), 0), Err(Refusal::Stale));
        assert_eq!(window.admit(&report(8, 1), 0), Ok(Arrival::Newest));
        assert_eq!(window.admit(&report(7, 1_000_001), 0), Err(Refusal::Stale));
    }

    #[test]
    fn a_run_from_the_future_moves_nothing_and_the_next_one_counts() {
        let (mut window, wall_us) = (ReplayWindow::default(), 1_795_000_000_000_000);
        let year_us = 365 * 86_400 * 1_000_000;
        assert_eq!(window.admit(&report(wall_us - 7, 5), wall_us), Ok(Arrival::Newest));
        assert_eq!(window.admit(&report(wall_us + year_us, 1), wall_us), Err(Refusal::EpochAhead));
        assert_eq!(window.admit(&report(wall_us - 7, 6), wall_us), Ok(Arrival::Newest), "the run before goes on");
        let ahead = wall_us + MOST_AHEAD_US;
        assert_eq!(window.admit(&report(ahead + 1, 1), wall_us), Err(Refusal::EpochAhead));
        assert_eq!(window.admit(&report(ahead, 1), wall_us), Ok(Arrival::Newest));
        assert_eq!(
            window.admit(&report(ahead, 2), wall_us - year_us),
            Ok(Arrival::Newest),
            "control's clock was set back"
        );
        assert_eq!(window.admit(&report(wall_us, 1), wall_us), Err(Refusal::Stale), "replays stay out");
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
            assert_eq!(window.admit(&report(7, sequence), 0), Err(Refusal::Replayed));
        }
        assert_eq!(window.admit(&report(6, 10), 0), Err(Refusal::Stale));
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
                    Err(Refusal::Replayed) => prop_assert!(came.contains(&(boot_epoch, sequence))),
                    Err(refusal) => {
                        prop_assert_eq!(refusal, Refusal::Stale);
                        prop_assert!(newest.is_some_and(|(epoch, newest)| epoch > boot_epoch || newest - sequence >= WIDTH));
                    }
                }
            }
        }
    }
}
