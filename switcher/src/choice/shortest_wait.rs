//! The shortest expected wait, from what a backend has in flight, how many workers share it, and how long a request takes.
//!
//! A request that finds a worker idle waits for nobody; one that finds all at work waits for as many to end as wait already,
//! itself included. So only requests beyond the workers count as wait. Those at work count a sixteenth of that: it sends a
//! request to the quicker of two with idle workers, spreads requests over equal ones, and forgives a number of workers
//! that is slightly wrong.

use std::num::NonZeroU32;

use super::{Least, Load, Pool, from};

/// One request that waits counts as much as so many at work.
const WAITING: u64 = 16;
/// How much of the cost an execution time moves, in eighths; the others' mean moves the rest. Where workers are known, more
/// shortens the tail and lengthens the median. Where they are unknown, in-flight requests that may be waiting are in a
/// reported time already.
const KNOWN_WORKERS: u64 = 7;
const UNKNOWN_WORKERS: u64 = 1;
const EIGHTHS: u64 = 8;

/// The backend that will likely answer first. What one doesn't say counts as the others' mean.
pub fn shortest_wait(pool: &impl Pool, hash: u64) -> Option<usize> {
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
    /// More than there are requests if nobody says it: the least in flight is then the best.
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

    /// Eight times an execution time that is drawn to the mean.
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
