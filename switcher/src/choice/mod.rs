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

pub use least_connections::least_connections;
pub use lightest::lightest;
pub use shortest_wait::shortest_wait;

/// The backends that a connection may go to, by index from 0.
pub trait Pool {
    /// How many there are; a few dozen at the most, because each is looked at.
    fn count(&self) -> usize;
    /// How much one can do, compared with the others; 0 if it takes no new connection.
    fn weight(&self, index: usize) -> u32;
    /// How much it has to do now: connections, or requests.
    fn in_flight(&self, index: usize) -> u32;
    /// How long it takes for a request, in microseconds, if it said so lately.
    fn execution_us(&self, index: usize) -> Option<u32>;
}

/// A number below `bound`, by 32 bits of a hash.
fn below(bound: u64, hash: u32) -> u64 {
    (bound * u64::from(hash)) >> 32
}

/// The one with the least cost for its weight, of those that take connections. The search begins at a place that the
/// hash says, and of equal ones the first stays.
fn least(pool: &impl Pool, hash: u64, cost: impl Fn(usize) -> u64) -> Option<usize> {
    let count = pool.count();
    let start = below(count as u64, (hash >> 32) as u32) as usize;
    let mut best: Option<(usize, u64, u32)> = None;
    for index in (start..count).chain(0..start) {
        let weight = pool.weight(index);
        if weight == 0 {
            continue;
        }
        let cost = cost(index);
        let is_less = |(_, least, of): (usize, u64, u32)| {
            u128::from(cost) * u128::from(of) < u128::from(least) * u128::from(weight) // cost / weight < least / of
        };
        if best.is_none_or(is_less) {
            best = Some((index, cost, weight));
        }
    }
    best.map(|(index, ..)| index)
}
