//! Bounded waiting. Nothing is asserted on how long it took; only a test that fails waits to the end.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Long enough for any machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until there is something, and fails after [`PATIENCE`] with what was awaited.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= end {
            bail!("not within {} s: {what}", PATIENCE.as_secs());
        }
        std::thread::sleep(LOOK);
    }
}
