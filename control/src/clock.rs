//! The clocks, read here alone: everything else is given the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use shunt_shmlayout::clock::now_ms as monotonic_ms;

/// The wall clock, which somebody may set back.
pub struct WallClock {
    start: Instant,
    start_us: u64,
}

impl WallClock {
    /// Begins now.
    pub fn start() -> Self {
        Self { start: Instant::now(), start_us: wall_us() }
    }

    /// Microseconds since 1970: the later of what it says now and what it said at the start and has gone on since. Set
    /// back, it doesn't make others' clocks look ahead.
    pub fn latest_us(&self) -> u64 {
        self.latest(wall_us(), self.start.elapsed())
    }

    fn latest(&self, now_us: u64, elapsed: Duration) -> u64 {
        now_us.max(self.start_us.saturating_add(elapsed.as_micros() as u64))
    }
}

fn wall_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// Milliseconds since 1970, for people only.
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_goes_on_and_one_set_forward_is_followed() {
        let clock = WallClock { start: Instant::now(), start_us: 1_000_000 };
        let after = Duration::from_secs(2);
        assert_eq!(
            [0, 3_000_000, 9_000_000].map(|now_us| clock.latest(now_us, after)),
            [3_000_000, 3_000_000, 9_000_000]
        );
    }
}
