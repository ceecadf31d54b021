//! One simulated back-end: its station, and the counts that its metrics show.

use anyhow::{Context, Result, ensure};
use shunt_tests::pool::demand::Demand;
use shunt_tests::pool::random::Random;
use shunt_tests::pool::station::{Job, Station};
use shunt_tests::pool::wave::Wave;
use std::fmt::Write;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;
use tokio::time::Instant;

/// A back-end as the command line has it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub name: String,
    pub address: IpAddr,
    pub workers: usize,
    pub mean_ms: f64,
}

impl FromStr for Plan {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, rest) = text.split_once('=').context("a back-end is NAME=ADDRESS,WORKERS,MEAN_MS")?;
        let parts: Vec<&str> = rest.split(',').collect();
        let [address, workers, mean_ms] = parts[..] else {
            anyhow::bail!("'{rest}' is not ADDRESS,WORKERS,MEAN_MS");
        };
        let plan = Self {
            name: name.to_owned(),
            address: address.parse().with_context(|| format!("'{address}' is not an address"))?,
            workers: workers.parse().with_context(|| format!("'{workers}' is not a number of workers"))?,
            mean_ms: mean_ms.parse().with_context(|| format!("'{mean_ms}' is not a time in milliseconds"))?,
        };
        ensure!((1..=1000).contains(&plan.workers), "workers are from 1 to 1000, not {workers}");
        ensure!((0.1..=60_000.0).contains(&plan.mean_ms), "a mean is from 0.1 to 60000 ms, not {mean_ms}");
        Ok(plan)
    }
}

/// One back-end at work.
pub struct Backend {
    name: String,
    station: Station,
    demand: Demand,
    mean_us: f64,
    wave: Option<Wave>,
    /// Ordered through the metrics port.
    factor: f64,
    random: Random,
    start: Instant,
    in_flight: u64,
    answered: u64,
    refused: u64,
    execution: Duration,
    latency: Duration,
}

/// A request that a back-end works on.
pub struct Admitted {
    arrived_us: u64,
    job: Job,
    /// When it is to be answered.
    pub until: Instant,
}

impl Backend {
    pub fn new(plan: &Plan, demand: Demand, wave: Option<Wave>, queue: usize, seed: u64, start: Instant) -> Self {
        Self {
            name: plan.name.clone(),
            station: Station::new(plan.workers, queue),
            demand,
            mean_us: plan.mean_ms * 1000.0,
            wave,
            factor: 1.0,
            random: Random::new(seed),
            start,
            in_flight: 0,
            answered: 0,
            refused: 0,
            execution: Duration::ZERO,
            latency: Duration::ZERO,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes a request in, or refuses it.
    pub fn admit(&mut self) -> Option<Admitted> {
        let arrived_us = self.start.elapsed().as_micros() as u64;
        let drawn = self.demand.draw(&mut self.random, self.mean_us) as f64 * self.factor;
        let (drawn, wave) = (drawn, self.wave);
        let slowed = |begin_us| wave.map_or(1.0, |wave| wave.factor_at(begin_us));
        let Some(job) = self.station.admit(arrived_us, |begin_us| (drawn * slowed(begin_us)) as u64) else {
            self.refused += 1;
            return None;
        };
        self.in_flight += 1;
        Some(Admitted { arrived_us, job, until: self.start + Duration::from_micros(job.end_us) })
    }

    /// Counts a request as done.
    pub fn finish(&mut self, request: &Admitted) {
        self.in_flight -= 1;
        self.answered += 1;
        self.execution += Duration::from_micros(request.job.end_us - request.job.begin_us);
        self.latency += Duration::from_micros(request.job.end_us - request.arrived_us);
    }

    /// Multiplies service times of requests that arrive from now on.
    pub fn slow_down(&mut self, factor: f64) {
        self.factor = factor;
    }

    /// Prometheus text exposition format 0.0.4. "Execution" is a worker's time, "request" has the wait before it, too.
    pub fn metrics(&self) -> String {
        let (execution, latency) = (self.execution.as_secs_f64(), self.latency.as_secs_f64());
        let mut text = String::new();
        for (name, kind, value) in [
            ("load_in_flight", "gauge", self.in_flight as f64),
            ("load_requests_total", "counter", self.answered as f64),
            ("load_refused_total", "counter", self.refused as f64),
        ] {
            writeln!(text, "# TYPE {name} {kind}\n{name} {value}").expect("a string takes everything");
        }
        for (name, sum) in [("load_execution_seconds", execution), ("load_request_seconds", latency)] {
            writeln!(text, "# TYPE {name} summary\n{name}_sum {sum:.6}\n{name}_count {}", self.answered)
                .expect("a string takes everything");
        }
        text
    }
}
