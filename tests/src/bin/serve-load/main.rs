//! Back-end servers whose service times are simulated: fixed workers, a bounded queue, and sleep instead of work, so that
//! the machine that runs the benchmark doesn't decide its result. One process is the whole pool.
//!
//! A request is one HTTP/1.0 exchange on a connection of its own; the answer is the back-end's name. A full queue resets
//! the connection. Each back-end's metrics port serves `/metrics` (Prometheus text, for the agents), and takes orders:
//! `/factor/F` multiplies its service times from now on, `/burst/N` puts N requests of somebody else's into its queue.

mod backend;
mod web;

use anyhow::{Context, Result, ensure};
use backend::{Backend, Plan};
use clap::Parser;
use shunt_tests::pool::demand::Demand;
use shunt_tests::pool::wave::Wave;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::time::Instant;

#[derive(Parser)]
#[command(about = "Answers HTTP as a pool of slow servers would, without using a CPU for it")]
struct Options {
    /// A back-end: NAME=ADDRESS,WORKERS,MEAN_MS.
    #[arg(long = "backend", required = true, value_name = "NAME=ADDRESS,WORKERS,MEAN_MS")]
    backends: Vec<Plan>,
    /// Slows a back-end down again and again: NAME=FACTOR:PERIOD_MS:ON_MS:PHASE_MS.
    #[arg(long = "antagonist", value_name = "NAME=FACTOR:PERIOD_MS:ON_MS:PHASE_MS", value_parser = parse_antagonist)]
    antagonists: Vec<(String, Wave)>,
    /// Distribution of service times: exponential, or log-normal:SIGMA.
    #[arg(long, default_value = "exponential")]
    distribution: Demand,
    /// Requests that may wait at each back-end; one more is refused.
    #[arg(long, default_value_t = 64)]
    queue: usize,
    /// Port of the service.
    #[arg(long, default_value_t = 80)]
    port: u16,
    /// Port of metrics and orders.
    #[arg(long, default_value_t = 9100)]
    metrics_port: u16,
    /// Decides the service times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn parse_antagonist(text: &str) -> Result<(String, Wave)> {
    let (name, wave) = text.split_once('=').context("an antagonist is NAME=FACTOR:PERIOD_MS:ON_MS:PHASE_MS")?;
    Ok((name.to_owned(), wave.parse()?))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    for (name, _) in &options.antagonists {
        ensure!(options.backends.iter().any(|plan| plan.name == *name), "--antagonist {name}: no such back-end");
    }
    let start = Instant::now();
    for (plan, seed) in options.backends.iter().zip(options.seed * 1000..) {
        let wave = options.antagonists.iter().find(|(name, _)| *name == plan.name).map(|(_, wave)| *wave);
        let backend = Backend::new(plan, options.distribution, wave, options.queue, seed, start);
        let backend = Arc::new(Mutex::new(backend));
        let service = listen(plan, options.port).await?;
        let metrics = listen(plan, options.metrics_port).await?;
        tokio::spawn(web::serve_requests(service, backend.clone()));
        tokio::spawn(web::serve_metrics(metrics, backend));
    }
    println!("ready");
    std::future::pending().await
}

async fn listen(plan: &Plan, port: u16) -> Result<TcpListener> {
    let address = (plan.address, port);
    TcpListener::bind(address).await.with_context(|| format!("listening on {}:{port} for {}", plan.address, plan.name))
}
