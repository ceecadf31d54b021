//! What became of all requests, and its summary.

use super::request::{Failure, Outcome};
use anyhow::Result;
use hdrhistogram::Histogram;
use shunt_tests::pool::summary::Summary;
use std::collections::BTreeMap;
use std::time::Duration;

/// Counts and latencies.
pub struct Tally {
    latencies_us: Histogram<u64>,
    answers: BTreeMap<String, u64>,
    failures: BTreeMap<Failure, u64>,
    latest: Duration,
}

impl Tally {
    /// For latencies up to about `limit`.
    pub fn new(limit: Duration) -> Result<Self> {
        Ok(Self {
            latencies_us: Histogram::new_with_bounds(1, micros(limit * 2).max(2), 3)?,
            answers: BTreeMap::new(),
            failures: BTreeMap::new(),
            latest: Duration::ZERO,
        })
    }

    /// Adds one.
    pub fn record(&mut self, outcome: Outcome) {
        self.latest = self.latest.max(outcome.late);
        match outcome.result {
            Ok(backend) => {
                self.latencies_us.saturating_record(micros(outcome.latency));
                *self.answers.entry(backend).or_default() += 1;
            }
            Err(failure) => *self.failures.entry(failure).or_default() += 1,
        }
    }

    /// Sums up a measurement that took so long.
    pub fn summarize(self, seconds: f64) -> Summary {
        let (answered, errors) = (self.latencies_us.len(), self.failures.values().sum::<u64>());
        let at = |quantile| self.latencies_us.value_at_quantile(quantile) as f64 / 1000.0;
        Summary {
            requests: answered + errors,
            answered,
            errors,
            answered_per_s: answered as f64 / seconds,
            mean_ms: self.latencies_us.mean() / 1000.0,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p99_9_ms: at(0.999),
            max_ms: self.latencies_us.max() as f64 / 1000.0,
            latest_ms: self.latest.as_secs_f64() * 1000.0,
            failures: self.failures.into_iter().map(|(failure, count)| (failure.name().to_owned(), count)).collect(),
            answers: self.answers,
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(latency_ms: u64, result: Result<String, Failure>) -> Outcome {
        Outcome { late: Duration::from_millis(1), latency: Duration::from_millis(latency_ms), result }
    }

    #[test]
    fn answers_make_the_percentiles_and_failures_are_counted_apart() {
        let mut tally = Tally::new(Duration::from_secs(5)).unwrap();
        (1..=100).for_each(|latency_ms| tally.record(outcome(latency_ms, Ok("b1".to_owned()))));
        tally.record(outcome(5000, Err(Failure::Timeout)));
        tally.record(outcome(1, Err(Failure::Cut)));
        let summary = tally.summarize(10.0);
        assert_eq!((summary.requests, summary.answered, summary.errors), (102, 100, 2));
        assert!((49.9..50.1).contains(&summary.p50_ms) && (98.9..99.1).contains(&summary.p99_ms), "{summary:?}");
        assert_eq!(summary.failures, BTreeMap::from([("cut".to_owned(), 1), ("timeout".to_owned(), 1)]));
        assert_eq!(summary.answers, BTreeMap::from([("b1".to_owned(), 100)]));
    }
}
