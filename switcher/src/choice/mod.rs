//! The schedulers that choose a backend by present load (patent Fig. 6 step 214): pure functions of a pool and a hash, tested on
//! a simulated pool.
//!
//! The hash is the connection's own, uniform over 64 bits: switchers that see the same loads don't all choose the same one of
//! several equal backends.

mod latency;
mod least_connections;
mod lightest;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;

pub use latency::latency;
pub use least_connections::least_connections;
pub use lightest::lightest;

/// A backend's present load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Connections or requests in flight.
    pub in_flight: u32,
    /// Time per request in microseconds, if a fresh report has it.
    pub execution_us: Option<NonZeroU32>,
    /// Requests that it works on at a time, if known.
    pub workers: Option<NonZeroU32>,
}

/// The candidates for a connection, by index from 0.
pub trait Pool {
    /// Number of candidates: a few dozen at most, because each is examined.
    fn count(&self) -> usize;
    /// Relative weight; 0 if it takes no new connections.
    fn weight(&self, index: usize) -> u32;
    /// Its present load. `latency` asks twice and must get the same answer.
    fn load(&self, index: usize) -> Load;
}

/// A number below `bound`, by 32 bits of a hash.
fn below(bound: u64, hash: u32) -> u64 {
    (bound * u64::from(hash)) >> 32
}

/// All candidates, starting at a position given by the hash, so that ties are broken differently for each connection.
fn from(pool: &impl Pool, hash: u64) -> impl Iterator<Item = usize> {
    let count = pool.count();
    let start = below(count as u64, (hash >> 32) as u32) as usize;
    (start..count).chain(0..start)
}

/// The candidate with the lowest ratio of cost to ability so far; the first of equal ones.
#[derive(Default)]
struct Least(Option<(usize, u64, u64)>);

impl Least {
    /// Ignores a candidate without ability.
    fn consider(&mut self, index: usize, cost: u64, ability: u64) {
        // cost / ability < least / of, without a division
        let is_less = |(_, least, of): (usize, u64, u64)| {
            u128::from(cost) * u128::from(of) < u128::from(least) * u128::from(ability)
        };
        if ability > 0 && self.0.is_none_or(is_less) {
            self.0 = Some((index, cost, ability));
        }
    }

    fn index(self) -> Option<usize> {
        self.0.map(|(index, ..)| index)
    }
}
