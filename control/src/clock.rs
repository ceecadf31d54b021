//! The clocks, read here alone: everything else is given the time.

use std::time::{SystemTime, UNIX_EPOCH};

pub use shunt_shmlayout::clock::now_ms as monotonic_ms;

/// Milliseconds since 1970, for people only.
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
