//! The least to do for its weight, over all backends. Counts in flight are shared by all switchers and change with each
//! choice, so that they don't run after one backend together.

use super::{Pool, least};

/// The backend with the least in flight for its weight, the new connection included.
pub fn least_connections(pool: &impl Pool, hash: u64) -> Option<usize> {
    least(pool, hash, |index| u64::from(pool.in_flight(index)) + 1)
}
