//! The only place that reads clocks: other modules get the time as an argument. Tasks that only wait (health checks, agent
//! checks, the admin socket) use tokio's timers.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shunt_shmlayout::clock::now_ms;

/// The time, read once per turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// CLOCK_MONOTONIC, for every measurement and comparison.
    pub monotonic_ms: u64,
    /// Microseconds since 1970. May be set back.
    pub wall_us: u64,
}

impl Now {
    /// Reads both clocks.
    pub fn read() -> Self {
        let wall_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
        Self { monotonic_ms: now_ms(), wall_us }
    }

    /// Milliseconds since 1970, for display only.
    pub fn wall_ms(self) -> u64 {
        self.wall_us / 1000
    }
}

/// Measures a duration.
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The wall clock since control's start.
pub struct WallClock {
    start: Now,
}

impl WallClock {
    /// Starts at `start`.
    pub fn new(start: Now) -> Self {
        Self { start }
    }

    /// Microseconds since 1970: the later of the clock and its value at start plus the time elapsed. If the clock is set
    /// back, others' clocks do not appear ahead.
    pub fn latest_us(&self, now: Now) -> u64 {
        let elapsed_ms = now.monotonic_ms.saturating_sub(self.start.monotonic_ms);
        now.wall_us.max(self.start.wall_us.saturating_add(elapsed_ms.saturating_mul(1000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_goes_on_and_one_set_forward_is_followed() {
        let clock = WallClock::new(Now { monotonic_ms: 50, wall_us: 1_000_000 });
        let latest = |wall_us| clock.latest_us(Now { monotonic_ms: 2_050, wall_us });
        assert_eq!([0, 3_000_000, 9_000_000].map(latest), [3_000_000, 3_000_000, 9_000_000]);
    }
}
