//! How long a step of a back-end's load takes to the switchers.

use crate::shares::{Look, Share, Watcher};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use shunt_shmlayout::address::BackendId;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(1);
/// How long a step is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// A share that has fallen to this part of what it was is another distribution, and not its noise.
const LESS: f64 = 0.9;

/// Of all steps.
#[derive(Debug, Serialize)]
pub struct Steps {
    /// Until a report that has the step stood where switchers read it when they choose.
    pub report: Times,
    /// Until a generation in which the back-end has fewer slots was in use at every switcher. None where weights stay.
    pub weight: Times,
}

/// Milliseconds, from the order to what was awaited.
#[derive(Debug, Serialize)]
pub struct Times {
    /// Steps that showed.
    pub count: usize,
    /// Steps that didn't.
    pub missed: usize,
    pub median_ms: f64,
    pub p99_ms: f64,
}

impl Times {
    fn of(times: &[Option<Duration>]) -> Self {
        let mut seen: Vec<f64> = times.iter().flatten().map(|time| time.as_secs_f64() * 1000.0).collect();
        seen.sort_by(f64::total_cmp);
        // Nearest rank: of fewer than a hundred, the 99th percentile is the longest.
        let rank = |part: f64| seen.get((part * seen.len() as f64).ceil() as usize - 1).copied();
        let at = |part: f64| (!seen.is_empty()).then(|| rank(part)).flatten().unwrap_or(f64::NAN);
        Self { count: seen.len(), missed: times.len() - seen.len(), median_ms: at(0.5), p99_ms: at(0.99) }
    }
}

/// Makes the steps and measures each.
pub fn measure(
    watcher: &Watcher,
    backend: BackendId,
    orders: SocketAddr,
    steps: usize,
    burst: u32,
    pause: Duration,
) -> Result<Steps> {
    let (mut reports, mut weights) = (Vec::new(), Vec::new());
    for _ in 0..steps {
        std::thread::sleep(pause);
        let (report, weight) = make_one(watcher, backend, orders, burst)?;
        reports.push(report);
        weights.push(weight);
    }
    Ok(Steps { report: Times::of(&reports), weight: Times::of(&weights) })
}

fn make_one(
    watcher: &Watcher,
    backend: BackendId,
    orders: SocketAddr,
    burst: u32,
) -> Result<(Option<Duration>, Option<Duration>)> {
    let share = |look: &Look| look.of(backend).copied().context("the back-end is gone from the service");
    let before = share(&watcher.look()?)?;
    let start = Instant::now();
    order_burst(orders, burst)?;
    let has_report = |_: &Look, now: Share| now.in_flight >= before.in_flight + burst / 2;
    let has_weight = |look: &Look, now: Share| look.is_in_use && now.slots <= LESS * before.slots;
    let (mut report, mut weight) = (None, None);
    while start.elapsed() < PATIENCE && (report.is_none() || weight.is_none()) {
        let look = watcher.look()?;
        let now = share(&look)?;
        report = report.or_else(|| has_report(&look, now).then(|| start.elapsed()));
        weight = weight.or_else(|| has_weight(&look, now).then(|| start.elapsed()));
        std::thread::sleep(LOOK);
    }
    Ok((report, weight))
}

fn order_burst(orders: SocketAddr, burst: u32) -> Result<()> {
    let mut stream = TcpStream::connect(orders).with_context(|| format!("the pool's orders at {orders}"))?;
    write!(stream, "GET /burst/{burst} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.0 200 "), "the pool refused a burst: {answer}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ranks_and_what_never_came_is_counted() {
        let mut times: Vec<_> = (1..=20).map(|ms| Some(Duration::from_millis(ms))).collect();
        times.push(None);
        let summary = Times::of(&times);
        assert_eq!((summary.count, summary.missed), (20, 1));
        assert_eq!((summary.median_ms, summary.p99_ms), (10.0, 20.0));
        assert!(Times::of(&[None]).median_ms.is_nan());
    }
}
