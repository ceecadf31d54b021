//! The clock of all times in the regions: CLOCK_MONOTONIC, in milliseconds. A wall-clock jump cannot expire an entry.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The current time, in milliseconds.
pub fn now_ms() -> u64 {
    read_ms(ClockId::CLOCK_MONOTONIC)
}

/// The current time at tick resolution: up to 4 ms behind, but never a system call.
pub fn coarse_now_ms() -> u64 {
    read_ms(ClockId::CLOCK_MONOTONIC_COARSE)
}

fn read_ms(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |now| Duration::from(now).as_millis() as u64)
}
