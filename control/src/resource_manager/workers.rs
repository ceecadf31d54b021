//! Estimates a backend's workers (concurrent requests) from its reported requests in flight and executing.
//!
//! Of `n` requests in flight, a backend with `w` workers executes min(n, w). The estimate moves until it predicts the
//! reported mean of executing requests over some seconds (stochastic approximation: Robbins and Monro, 1951). It needs no
//! execution times and tolerates their changes. No estimate is returned before requests have queued: until then any larger
//! number fits the reports as well. A backend whose execution times include queueing never appears to queue, and its
//! workers stay unknown.

/// Time constant of all averages: a few hundred requests of a slow backend.
const AVERAGING_MS: f64 = 10_000.0;
/// With a shorter averaging time, requests that have just started would appear queued.
const LEAST_MS: f64 = 5_000.0;
/// Agents report at least every second. One sample says nothing about a longer gap.
const LONGEST_GAP_MS: u64 = 2_000;
/// If a smaller part of the requests in flight is executing, the others are queued.
const AT_WORK: f64 = 0.9;

/// The estimate for one backend.
#[derive(Clone, Debug, Default)]
pub struct Workers {
    estimate: f64,
    in_flight: f64,
    at_work: f64,
    /// Averages so far, and the time of the last sample.
    seen_ms: f64,
    last_ms: Option<u64>,
    /// Whether requests have queued.
    is_known: bool,
}

impl Workers {
    /// Adds a report: requests in flight now, and mean of executing requests over the last moments.
    pub fn learn(&mut self, in_flight: f64, at_work: f64, now_ms: u64) {
        let gap_ms = self.last_ms.replace(now_ms).map(|last_ms| now_ms.saturating_sub(last_ms));
        let Some(gap_ms) = gap_ms.filter(|gap_ms| *gap_ms <= LONGEST_GAP_MS) else {
            // A known estimate survives a silence; an unknown one restarts.
            if !self.is_known {
                (self.estimate, self.in_flight, self.at_work) = (at_work.max(1.0), in_flight, at_work);
                self.seen_ms = 0.0;
            }
            return;
        };
        let elapsed_ms = gap_ms as f64;
        self.seen_ms += elapsed_ms;
        // Initially all samples count equally, so that the start is soon forgotten.
        let share = elapsed_ms / self.seen_ms.clamp(1.0, AVERAGING_MS);
        self.in_flight += share * (in_flight - self.in_flight);
        self.at_work += share * (at_work - self.at_work);
        self.estimate = (self.estimate + share * (at_work - in_flight.min(self.estimate))).max(1.0);
        self.is_known |= self.seen_ms >= LEAST_MS && self.at_work < AT_WORK * self.in_flight;
    }

    /// The estimate, once known.
    pub fn number(&self) -> Option<u32> {
        self.is_known.then(|| self.estimate.round() as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::simulation::{Pool, SimulatedReport, SimulatedServer};

    /// What is learnt of two servers of so many workers each that share Poisson arrivals.
    fn learnt(
        workers: usize,
        mean_ms: f64,
        load: f64,
        seconds: f64,
        at_work: fn(&SimulatedReport) -> f64,
    ) -> Option<u32> {
        let servers = vec![SimulatedServer::new(workers, mean_ms), SimulatedServer::new(workers, mean_ms)];
        let (mut pool, mut learnt, mut now_ms) = (Pool::new(servers, load, 11), Workers::default(), 1000);
        pool.run(seconds, |reports, _| {
            now_ms += 50;
            learnt.learn(reports[0].in_flight, at_work(&reports[0]), now_ms);
        });
        learnt.number()
    }

    #[test]
    fn a_busy_backend_s_workers_are_learnt_in_seconds() {
        for (workers, mean_ms, load) in
            [(1, 10.0, 0.9), (4, 80.0, 0.9), (4, 20.0, 0.9), (16, 40.0, 0.95), (200, 100.0, 1.1)]
        {
            let number = learnt(workers, mean_ms, load, 40.0, |report| report.busy).expect("requests wait");
            let (low, high) = (workers as f64 * 0.85 - 0.5, workers as f64 * 1.15 + 0.5);
            assert!((low..=high).contains(&f64::from(number)), "{number} for {workers}");
        }
    }

    #[test]
    fn before_anybody_waits_nothing_is_known() {
        assert_eq!(learnt(16, 40.0, 0.2, 60.0, |report| report.busy), None);
        assert_eq!(Workers::default().number(), None);
    }

    #[test]
    fn times_that_include_the_wait_teach_nothing() {
        for load in [0.5, 0.9] {
            assert_eq!(learnt(4, 40.0, load, 60.0, |report| report.in_system), None, "{load}");
        }
    }

    #[test]
    fn more_and_fewer_workers_are_followed() {
        let mut learnt = Workers::default();
        let mut now_ms = 0;
        let mut run = |workers: f64, learnt: &mut Workers| {
            for turn in 0..2400 {
                now_ms += 50;
                let in_flight = f64::from(turn % 20);
                learnt.learn(in_flight, in_flight.min(workers), now_ms);
            }
            learnt.number()
        };
        assert_eq!([8.0, 3.0, 12.0].map(|workers| run(workers, &mut learnt)), [Some(8), Some(3), Some(12)]);
    }

    /// Reports of 16 workers, 50 ms apart, for so long.
    fn work(learnt: &mut Workers, now_ms: &mut u64, seconds: u64) {
        for turn in 0..seconds * 20 {
            *now_ms += 50;
            let in_flight = (turn % 40) as f64;
            learnt.learn(in_flight, in_flight.min(16.0), *now_ms);
        }
    }

    #[test]
    fn a_silence_changes_nothing_that_is_known() {
        let (mut learnt, mut now_ms) = (Workers::default(), 0);
        work(&mut learnt, &mut now_ms, 60);
        let before = learnt.number();
        assert!(before.is_some_and(|number| (15..=17).contains(&number)), "{before:?}");
        for gap_ms in [LONGEST_GAP_MS + 1, 30_000] {
            now_ms += gap_ms;
            // Twenty were let in at once, and none has been at work yet.
            learnt.learn(20.0, 0.0, now_ms);
            assert_eq!(learnt.number(), before, "{gap_ms}");
        }
        now_ms += 50;
        learnt.learn(20.0, 16.0, now_ms);
        assert_eq!(learnt.number(), before, "nor does the report after it count whole");
    }

    #[test]
    fn samples_around_a_silence_make_nobody_known() {
        let (mut learnt, mut now_ms) = (Workers::default(), 0);
        work(&mut learnt, &mut now_ms, 4);
        now_ms += 30_000;
        learnt.learn(20.0, 0.0, now_ms);
        learnt.learn(20.0, 0.0, now_ms + 50);
        assert_eq!(learnt.number(), None);
    }

    #[test]
    fn a_clock_that_stands_and_absurd_numbers_break_nothing() {
        let mut learnt = Workers::default();
        for now_ms in [5, 5, 4, 5, u64::MAX, 7] {
            learnt.learn(1e7, 1e7, now_ms);
            learnt.learn(0.0, 0.0, now_ms);
        }
        assert!(learnt.estimate.is_finite() && learnt.estimate >= 1.0, "{learnt:?}");
    }
}
