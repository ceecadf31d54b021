//! The shortest expected wait: how much a backend works on now, times how long a request takes there.
//!
//! Both signals are those of Prequal (Wydrowski et al., "Load is not what you should balance", NSDI 2024). Its rule, the
//! quickest of those that aren't hot, was tried on the simulated pool and balanced hardly better than the least in flight;
//! the product makes up for the age of the reports, because what was chosen since is in one factor at once.

use super::{Least, Pool, from};

/// The backend that will likely answer first. One that doesn't say how long it takes counts as an average one.
pub fn shortest_wait(pool: &impl Pool, hash: u64) -> Option<usize> {
    let (mut shortest, mut unknown) = (Least::default(), Least::default());
    let (mut sum, mut count) = (0, 0);
    for index in from(pool, hash) {
        let (weight, load) = (pool.weight(index), pool.load(index));
        let work = u64::from(load.in_flight) + 1;
        match load.execution_us.map(u64::from) {
            Some(execution_us) if weight > 0 => {
                (sum, count) = (sum + execution_us, count + 1);
                shortest.consider(index, work * execution_us, weight);
            }
            _ => unknown.consider(index, work, weight),
        }
    }
    let average = sum.checked_div(count).unwrap_or(1);
    shortest.merge(unknown.times(average));
    shortest.index()
}
