//! Least expected latency, from the requests in flight at a backend, its number of workers, and its time per request.
//!
//! A request that finds an idle worker doesn't wait; one that finds all of them busy waits until as many requests have ended as
//! are queued, itself included. So only requests beyond the number of workers count in full. Those being worked on count a
//! sixteenth of that: this prefers the faster of two backends with idle workers, spreads requests over equal ones, and tolerates
//! a slightly wrong number of workers.

use std::num::NonZeroU32;

use super::{Least, Load, Pool, from};

/// How many requests being worked on count as much as one that waits.
const WAITING: u64 = 16;
/// Weight of a backend's own execution time in its cost, in eighths; the mean of the pool has the rest. Where the workers are
/// known, a larger weight shortens the tail and lengthens the median. Where they are unknown, the reported time already includes
/// waiting.
const KNOWN_WORKERS: u64 = 7;
const UNKNOWN_WORKERS: u64 = 1;
const EIGHTHS: u64 = 8;

/// The backend with the least expected latency. A value that a backend doesn't report counts as the mean of the others.
pub fn latency(pool: &impl Pool, hash: u64) -> Option<usize> {
    let usual = Usual::of(pool);
    let mut shortest = Least::default();
    for index in from(pool, hash) {
        let Load { in_flight, execution_us, workers } = pool.load(index);
        let execution_us = execution_us.map_or(usual.execution_us, wide);
        let (workers, execution_us) = match workers {
            Some(workers) => (wide(workers), usual.damp(execution_us, KNOWN_WORKERS)),
            None => (usual.workers, usual.damp(execution_us, UNKNOWN_WORKERS)),
        };
        let in_flight = u64::from(in_flight) + 1;
        let at_work = in_flight.min(workers);
        let cost = (WAITING * (in_flight - at_work) + at_work).saturating_mul(execution_us);
        shortest.consider(index, cost, u64::from(pool.weight(index)) * workers);
    }
    shortest.index()
}

fn wide(number: NonZeroU32) -> u64 {
    number.get().into()
}

/// The means of those that say something.
struct Usual {
    execution_us: u64,
    /// More than any number of requests if no backend reports it: the choice is then by least in flight.
    workers: u64,
}

impl Usual {
    fn of(pool: &impl Pool) -> Self {
        let (mut execution_us, mut workers) = (Mean::default(), Mean::default());
        for index in (0..pool.count()).filter(|index| pool.weight(*index) > 0) {
            let load = pool.load(index);
            execution_us.add(load.execution_us);
            workers.add(load.workers);
        }
        Self { execution_us: execution_us.or(1), workers: workers.or(u32::MAX.into()) }
    }

    /// Eight times an execution time, damped towards the mean.
    fn damp(&self, execution_us: u64, eighths: u64) -> u64 {
        eighths * execution_us + (EIGHTHS - eighths) * self.execution_us
    }
}

#[derive(Default)]
struct Mean {
    sum: u64,
    count: u64,
}

impl Mean {
    fn add(&mut self, value: Option<NonZeroU32>) {
        let Some(value) = value else { return };
        (self.sum, self.count) = (self.sum + wide(value), self.count + 1);
    }

    fn or(&self, other: u64) -> u64 {
        self.sum.checked_div(self.count).unwrap_or(other)
    }
}
