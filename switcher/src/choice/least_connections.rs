//! Weighted least connections over all backends. All switchers share the counts, which change with each choice, so that they don't
//! all choose the same backend.

use super::{Least, Pool, from};

/// The backend with the fewest connections per weight, counting the new one.
pub fn least_connections(pool: &impl Pool, hash: u64) -> Option<usize> {
    let mut least = Least::default();
    for index in from(pool, hash) {
        least.consider(index, u64::from(pool.load(index).in_flight) + 1, pool.weight(index).into());
    }
    least.index()
}
