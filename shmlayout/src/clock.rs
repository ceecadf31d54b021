//! The clock of every time in the regions: CLOCK_MONOTONIC, in milliseconds. A jump of the wall clock expires nothing.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Now.
pub fn now_ms() -> u64 {
    read_ms(ClockId::CLOCK_MONOTONIC)
}

/// Now, 1 to 4 ms behind at the most: it costs no system call, wherever it is read.
pub fn coarse_now_ms() -> u64 {
    read_ms(ClockId::CLOCK_MONOTONIC_COARSE)
}

fn read_ms(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |now| Duration::from(now).as_millis() as u64)
}
