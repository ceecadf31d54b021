//! The least to do for its weight, over all backends. Counts in flight are shared by all switchers and change with each
//! choice, so that they don't run after one backend together.

use super::{Least, Pool, from};

/// The backend with the least in flight for its weight, the new connection included.
pub fn least_connections(pool: &impl Pool, hash: u64) -> Option<usize> {
    let mut least = Least::default();
    for index in from(pool, hash) {
        least.consider(index, u64::from(pool.load(index).in_flight) + 1, pool.weight(index).into());
    }
    least.index()
}
