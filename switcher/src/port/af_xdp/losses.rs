//! From the kernel's counts of a socket to what was lost since somebody last looked. They begin with the socket, which outlives
//! its switcher and may be replaced while the switcher lives, so the last reading stands in shared memory.

use crate::port::Losses;
use shunt_shmlayout::record::Counter;
use shunt_shmlayout::regions::SocketReading;

/// What was lost since the last reading, which is replaced by the one that `cookie`'s socket has `now`. A switcher killed
/// in between counts a second's losses twice, never less than before.
pub(super) fn since(reading: &SocketReading, cookie: u64, now: &Losses) -> Losses {
    let is_same = reading.cookie.get() == cookie;
    let grown = |before: &Counter, now: u64| if is_same { now.saturating_sub(before.get()) } else { now };
    let lost = Losses {
        ring_full: grown(&reading.ring_full, now.ring_full),
        no_frame: grown(&reading.no_frame, now.no_frame),
        invalid: grown(&reading.invalid, now.invalid),
        send_errors: 0,
    };
    reading.ring_full.set(now.ring_full);
    reading.no_frame.set(now.no_frame);
    reading.invalid.set(now.invalid);
    reading.cookie.set(cookie);
    lost
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn read(ring_full: u64, no_frame: u64, invalid: u64) -> Losses {
        Losses { ring_full, no_frame, invalid, send_errors: 0 }
    }

    #[test]
    fn a_successor_counts_what_came_since_and_a_new_socket_begins_anew() {
        let reading = SocketReading::new_zeroed();
        assert_eq!(since(&reading, 7, &read(5, 1, 0)), read(5, 1, 0));
        assert_eq!(since(&reading, 7, &read(5, 1, 0)), read(0, 0, 0));
        assert_eq!(since(&reading, 7, &read(9, 1, 2)), read(4, 0, 2), "whoever reads");
        assert_eq!(since(&reading, 8, &read(3, 0, 0)), read(3, 0, 0), "opened anew");
        assert_eq!(since(&reading, 8, &read(2, 0, 0)), read(0, 0, 0), "the kernel's counts don't fall, and ours never");
    }
}
