//! What a load came to: `generate-load` prints it as JSON, tests and benchmark read it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Counts, and percentiles of the latencies of the requests that were answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Requests that were due while it counted.
    pub requests: u64,
    /// Those answered.
    pub answered: u64,
    /// Those not.
    pub errors: u64,
    /// Answers a second.
    pub answered_per_s: f64,
    /// From when a request was due to the end of its answer.
    pub mean_ms: f64,
    /// Median.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// 99.9th percentile.
    pub p99_9_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// The most by which the generator itself was behind its schedule.
    pub latest_ms: f64,
    /// Errors by kind: timeout, connect, cut.
    pub failures: BTreeMap<String, u64>,
    /// Answers by back-end.
    pub answers: BTreeMap<String, u64>,
}
