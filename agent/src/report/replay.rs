//! Which reports of one agent came before: control keeps one of these for each agent, and asks it after the tag was found
//! right, for a forged datagram must not move it. The window is RFC 4303 section 3.4.3's, with the agent's start before
//! the sequence number, so that a started agent may count from 1 again.

use super::{Refusal, Report};

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
    /// Admits an authentic report once.
    pub fn admit(&mut self, report: &Report) -> Result<Arrival, Refusal> {
        let Report { boot_epoch, sequence, .. } = *report;
        if boot_epoch < self.boot_epoch {
            return Err(Refusal::Stale);
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
        assert_eq!(window.admit(&report(7, 1)), Ok(Arrival::Newest));
        assert_eq!(window.admit(&report(7, 1)), Err(Refusal::Replayed));
        assert_eq!(window.admit(&report(7, 3)), Ok(Arrival::Newest));
        assert_eq!(window.admit(&report(7, 2)), Ok(Arrival::Late));
        assert_eq!(window.admit(&report(7, 2)), Err(Refusal::Replayed));
        assert_eq!(window.admit(&report(7, 66)), Ok(Arrival::Newest));
        assert_eq!(window.admit(&report(7, 3)), Err(Refusal::Replayed), "63 behind");
        assert_eq!(window.admit(&report(7, 2)), Err(Refusal::Stale), "64 behind");
    }

    #[test]
    fn an_earlier_run_is_stale_and_a_later_one_counts_anew() {
        let mut window = ReplayWindow::default();
        window.admit(&report(7, 1_000_000)).unwrap();
        assert_eq!(window.admit(&report(6, 2_000_000)), Err(Refusal::Stale));
        assert_eq!(window.admit(&report(8, 1)), Ok(Arrival::Newest));
        assert_eq!(window.admit(&report(7, 1_000_001)), Err(Refusal::Stale));
    }

    proptest! {
        /// A set that forgets nothing is the model: what it has, the window never admits.
        #[test]
        fn nothing_is_admitted_twice(sent in prop::collection::vec((0..3_u64, prop_oneof![1..200_u64, 1..=u64::MAX]), 0..300)) {
            let (mut window, mut came) = (ReplayWindow::default(), HashSet::new());
            for (boot_epoch, sequence) in sent {
                let newest = came.iter().max().copied();
                match window.admit(&report(boot_epoch, sequence)) {
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
