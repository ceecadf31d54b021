//! From the kernel's counts of a socket to what was lost since somebody last counted it. The kernel's counts begin with the
//! socket, which outlives its switcher and may be replaced while the switcher lives, so the last reading stands in
//! shared memory.
//!
//! Losses are counted first and committed to the reading afterwards. A switcher killed in between, or between two words
//! of the reading, has its successor count up to a second's losses twice. No loss is left out.

use crate::port::Losses;
use crate::port::ownership::before_store;
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::record::Counter;
use shunt_shmlayout::regions::SocketReading;
use std::sync::atomic::{Ordering, fence};

/// What was lost since the last committed reading, by the counts that `cookie`'s socket has `now`.
pub(super) fn since(reading: &SocketReading<Writer>, cookie: u64, now: &Losses) -> Losses {
    let grown = |before: &Counter<Writer>, now: u64| now.saturating_sub(before_of(reading, before, cookie));
    Losses {
        ring_full: grown(&reading.ring_full, now.ring_full),
        no_frame: grown(&reading.no_frame, now.no_frame),
        invalid: grown(&reading.invalid, now.invalid),
        send_errors: 0,
    }
}

/// Makes `now` the last reading, once its losses are counted.
///
/// `invalid` is a difference of two of the kernel's counts. A packet without a frame raises the one before the other, so the
/// difference may fall for a moment. It is kept at its highest, or its way back up would count twice.
pub(super) fn commit(reading: &SocketReading<Writer>, cookie: u64, now: &Losses) {
    let invalid = now.invalid.max(before_of(reading, &reading.invalid, cookie));
    after_all_before();
    reading.ring_full.set(now.ring_full);
    after_all_before();
    reading.no_frame.set(now.no_frame);
    after_all_before();
    reading.invalid.set(invalid);
    after_all_before();
    reading.cookie.set(cookie); // last: beside its predecessor's counts, a new socket's cookie would hide losses
}

/// Orders the next store after what was counted and stored before, because a successor reads what a kill left.
fn after_all_before() {
    before_store();
    fence(Ordering::Release);
}

/// A word of the last reading; 0 if that was of another socket.
fn before_of(reading: &SocketReading<Writer>, word: &Counter<Writer>, cookie: u64) -> u64 {
    if reading.cookie.get() == cookie { word.get() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::af_xdp::crash_model::kill_at;
    use zerocopy::FromZeros;

    fn read(ring_full: u64, no_frame: u64, invalid: u64) -> Losses {
        Losses { ring_full, no_frame, invalid, send_errors: 0 }
    }

    fn count(reading: &SocketReading<Writer>, cookie: u64, now: &Losses) -> Losses {
        let lost = since(reading, cookie, now);
        commit(reading, cookie, now);
        lost
    }

    #[test]
    fn a_successor_counts_what_came_since_and_a_new_socket_begins_anew() {
        let reading = SocketReading::new_zeroed();
        assert_eq!(count(&reading, 7, &read(5, 1, 0)), read(5, 1, 0));
        assert_eq!(count(&reading, 7, &read(5, 1, 0)), read(0, 0, 0));
        assert_eq!(count(&reading, 7, &read(9, 1, 2)), read(4, 0, 2), "whoever reads");
        assert_eq!(count(&reading, 8, &read(3, 0, 0)), read(3, 0, 0), "opened anew");
        assert_eq!(count(&reading, 8, &read(2, 0, 0)), read(0, 0, 0), "the kernel's counts don't fall, and ours never");
    }

    #[test]
    fn what_was_told_and_not_committed_is_told_again() {
        let reading = SocketReading::new_zeroed();
        assert_eq!(since(&reading, 7, &read(5, 1, 2)), read(5, 1, 2));
        assert_eq!(since(&reading, 7, &read(6, 1, 2)), read(6, 1, 2));
    }

    #[test]
    fn a_difference_that_falls_and_rises_again_is_counted_once() {
        let reading = SocketReading::new_zeroed();
        // Of `rx_dropped` and `rx_fill_ring_empty_descs`: 10 and 5, 10 and 6, 11 and 6.
        let told = [read(0, 5, 5), read(0, 6, 4), read(0, 6, 5)].map(|now| count(&reading, 7, &now));
        assert_eq!(told, [read(0, 5, 5), read(0, 1, 0), read(0, 0, 0)]);
        assert_eq!(count(&reading, 8, &read(0, 0, 3)), read(0, 0, 3), "another socket's counts don't hide any");
    }

    /// A life counts each of the kernel's counts in turn, as the engine does.
    fn live(reading: &SocketReading<Writer>, counted: &Counter<Writer>, kernel: &[(u64, Losses)]) {
        for (cookie, now) in kernel {
            let lost = since(reading, *cookie, now);
            before_store();
            counted.add(lost.ring_full + lost.no_frame + lost.invalid);
            commit(reading, *cookie, now);
        }
    }

    #[test]
    fn killed_before_any_store_no_loss_is_left_out_and_one_readings_at_most_count_twice() {
        let kernel = [
            (7, read(5, 1, 0)),
            (7, read(9, 2, 3)),
            (8, read(4, 0, 0)), // opened anew, with lower counts
            (8, read(4, 7, 1)),
        ];
        const LOST: u64 = 14 + 12;
        let mut stores = 0;
        loop {
            let (reading, counted) = (SocketReading::new_zeroed(), Counter::new_zeroed());
            if !kill_at(stores, || live(&reading, &counted, &kernel)) {
                break;
            }
            // A life's readings have five stores each. The successor asks the socket that is there.
            live(&reading, &counted, &kernel[stores as usize / 5..]);
            let twice = counted.get().checked_sub(LOST);
            assert!(twice.is_some_and(|twice| twice <= 8), "{} counted, killed before store {stores}", counted.get());
            stores += 1;
        }
        assert_eq!(stores, 20);
    }
}
