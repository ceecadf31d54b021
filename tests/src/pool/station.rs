//! A server as queueing theory has it: some workers, one bounded queue before them, first come, first served.
//!
//! When a request begins and ends is decided the moment it arrives, from the times at which the workers become free. So a
//! timer that wakes late delays one answer and takes nothing from the station's capacity.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Workers and queue of one server. Times are microseconds since one moment of the caller's.
#[derive(Clone, Debug)]
pub struct Station {
    /// When each worker is free.
    free_us: BinaryHeap<Reverse<u64>>,
    /// When those who may still wait begin, in their order.
    begins_us: VecDeque<u64>,
    room: usize,
}

/// An admitted request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// When a worker takes it.
    pub begin_us: u64,
    /// When it is done.
    pub end_us: u64,
}

impl Station {
    /// So many workers, and room for so many that wait.
    pub fn new(workers: usize, room: usize) -> Self {
        Self { free_us: vec![Reverse(0); workers].into(), begins_us: VecDeque::new(), room }
    }

    /// Takes a request in, or refuses it because the queue is full. `execution_us` says how long a request takes that
    /// begins at the time it is given.
    pub fn admit(&mut self, now_us: u64, execution_us: impl FnOnce(u64) -> u64) -> Option<Job> {
        while self.begins_us.front().is_some_and(|begin| *begin <= now_us) {
            self.begins_us.pop_front();
        }
        let free_us = self.free_us.peek()?.0;
        if free_us > now_us && self.begins_us.len() >= self.room {
            return None;
        }
        self.free_us.pop();
        let begin_us = free_us.max(now_us);
        let job = Job { begin_us, end_us: begin_us + execution_us(begin_us) };
        self.free_us.push(Reverse(job.end_us));
        self.begins_us.push_back(begin_us);
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::random::Random;

    #[test]
    fn workers_work_side_by_side_and_the_next_waits_for_the_first_of_them() {
        let mut station = Station::new(2, 10);
        assert_eq!(station.admit(0, |_| 100), Some(Job { begin_us: 0, end_us: 100 }));
        assert_eq!(station.admit(10, |_| 20), Some(Job { begin_us: 10, end_us: 30 }));
        assert_eq!(station.admit(11, |begin| begin), Some(Job { begin_us: 30, end_us: 60 }));
        assert_eq!(station.admit(200, |_| 1), Some(Job { begin_us: 200, end_us: 201 }));
    }

    #[test]
    fn a_full_queue_refuses_until_somebody_has_begun() {
        let mut station = Station::new(1, 1);
        assert!(station.admit(0, |_| 100).is_some());
        assert!(station.admit(1, |_| 100).is_some(), "one may wait");
        assert!(station.admit(2, |_| 100).is_none(), "the second may not");
        assert!(station.admit(100, |_| 100).is_some(), "the first that waited has begun");
    }

    /// M/M/1 at load 0.8 has a mean time in the system of 1 / (1 - 0.8) service times.
    #[test]
    fn its_mean_time_is_that_of_the_theory() {
        let (mut station, mut random, mut now_us, count) = (Station::new(1, usize::MAX), Random::new(3), 0.0, 400_000);
        let mut spent_us = 0;
        for _ in 0..count {
            now_us += random.exponential(1250.0);
            let job = station.admit(now_us as u64, |_| random.exponential(1000.0) as u64).unwrap();
            spent_us += job.end_us - now_us as u64;
        }
        let mean = spent_us as f64 / f64::from(count);
        assert!((4500.0..5500.0).contains(&mean), "{mean}");
    }
}
