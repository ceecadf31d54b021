//! Which backend a new connection goes to (patent Fig. 6 step 214), where that hangs on what the backends have to do now.
//! Plain functions of a pool and a hash, tried on a simulated pool.
//!
//! The hash is the connection's own, spread evenly over 64 bits: switchers that see the same loads don't all take the
//! same one of several equal backends.

mod least_connections;
mod lightest;
mod shortest_wait;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;

pub use least_connections::least_connections;
pub use lightest::lightest;
pub use shortest_wait::shortest_wait;

/// What a backend has to do now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// How much: connections, or requests.
    pub in_flight: u32,
    /// How long it takes for a request, in microseconds, if it said so lately.
    pub execution_us: Option<NonZeroU32>,
    /// How many requests it works on at a time, if that is known.
    pub workers: Option<NonZeroU32>,
}

/// The backends that a connection may go to, by index from 0.
pub trait Pool {
    /// How many there are; a few dozen at the most, because each is looked at.
    fn count(&self) -> usize;
    /// How much one can do, compared with the others; 0 if it takes no new connection.
    fn weight(&self, index: usize) -> u32;
    /// What it has to do now. `shortest_wait` asks twice, and must get the same answer.
    fn load(&self, index: usize) -> Load;
}

/// A number below `bound`, by 32 bits of a hash.
fn below(bound: u64, hash: u32) -> u64 {
    (bound * u64::from(hash)) >> 32
}

/// All of a pool, from a place on that the hash says: of equal ones, the first that is met is as good as any.
fn from(pool: &impl Pool, hash: u64) -> impl Iterator<Item = usize> {
    let count = pool.count();
    let start = below(count as u64, (hash >> 32) as u32) as usize;
    (start..count).chain(0..start)
}

/// Among those considered, the one with the least cost for what it can do; of equal ones, the first.
#[derive(Default)]
struct Least(Option<(usize, u64, u64)>);

impl Least {
    /// One that can do nothing is no candidate.
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
