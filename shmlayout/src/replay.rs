//! Replay protection that survives a restart of control: the newest accepted report of each agent. Only control reads and
//! writes it.
//!
//! An entry holds the agent's run (its start time) and the newest sequence number of that run. Control may be killed between
//! any two stores; a report takes effect only after the last:
//!
//! ```text
//!  another report of the run       newest
//!  the first report of a run       run, newest, newest_of     while newest_of differs, no report of the run took effect
//!  a new owner of the entry        owner = 0, the others = 0, owner
//! ```

use crate::access::{Reader, Writer};
use crate::layout::described;
use crate::sync::Ordering;
use crate::word::Word;

/// The entry of one agent.
#[repr(C)]
#[derive(Default)]
#[cfg_attr(not(loom), derive(zerocopy::FromBytes))]
pub struct ReplayPlace<A = Reader> {
    owner: Word<A>,
    run: Word<A>,
    newest: Word<A>,
    newest_of: Word<A>,
}

described!(ReplayPlace<A> { owner, run, newest, newest_of });

impl<A> ReplayPlace<A> {
    /// The owner: control's number of the agent and its key; 0 if the entry is unused.
    pub fn owner(&self) -> u64 {
        self.owner.load(Ordering::Acquire)
    }

    /// The run, and the sequence number of its newest report that may have taken effect.
    pub fn read(&self) -> (u64, u64) {
        let run = self.run.load(Ordering::Acquire);
        let is_newest = self.newest_of.load(Ordering::Acquire) == run;
        (run, if is_newest { self.newest.load(Ordering::Acquire) } else { 0 })
    }
}

impl ReplayPlace<Writer> {
    /// Assigns the entry to another agent, without history.
    pub fn give_to(&self, owner: u64) {
        self.owner.store(0, Ordering::Release);
        self.run.store(0, Ordering::Release);
        self.newest.store(0, Ordering::Release);
        self.newest_of.store(0, Ordering::Release);
        self.owner.store(owner, Ordering::Release);
    }

    /// Records the newest report. `run` must not be earlier than the recorded one.
    pub fn write(&self, run: u64, newest: u64) {
        // Release throughout: a successor relies on the order of the stores.
        let is_new_run = self.run.load(Ordering::Relaxed) != run || self.newest_of.load(Ordering::Relaxed) != run;
        if is_new_run {
            self.run.store(run, Ordering::Release);
        }
        self.newest.store(newest, Ordering::Release);
        if is_new_run {
            self.newest_of.store(run, Ordering::Release);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_newest_report_is_found_again() {
        let place = ReplayPlace::<Writer>::default();
        place.give_to(5);
        assert_eq!((place.owner(), place.read()), (5, (0, 0)));
        for newest in [(7, 1), (7, 2), (7, 90), (8, 1), (8, 2)] {
            place.write(newest.0, newest.1);
            assert_eq!(place.read(), newest);
        }
        place.give_to(6);
        assert_eq!((place.owner(), place.read()), (6, (0, 0)));
    }

    /// After each store of the first report (8, 3) of a run that follows (7, 90).
    #[test]
    fn a_kill_in_the_middle_lets_no_old_report_in_and_locks_nobody_out() {
        let stopped_after = |stores: u32| {
            let place = ReplayPlace::<Writer>::default();
            place.write(7, 90);
            if stores >= 1 {
                place.run.store(8, Ordering::Release);
            }
            if stores >= 2 {
                place.newest.store(3, Ordering::Release);
            }
            place
        };
        assert_eq!(stopped_after(0).read(), (7, 90));
        for place in [stopped_after(1), stopped_after(2)] {
            let (run, newest) = place.read();
            assert_eq!((run, newest), (8, 0), "nothing of it has counted");
            place.write(8, 4);
            assert_eq!(place.read(), (8, 4));
        }
    }
}
