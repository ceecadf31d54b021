//! Open-loop load of the balancing benchmark: Poisson arrivals, a new connection for each request.
//!
//! The whole schedule is drawn before the first request, and latency counts from the moment a request was due: a device
//! that is slow meets the same arrivals as one that is fast, and a late client shows in the result instead of hiding in it
//! (no coordinated omission). Prints one JSON object.

mod request;
mod tally;

use anyhow::{Result, ensure};
use clap::Parser;
use shunt_tests::pool::random::Random;
use std::net::SocketAddr;
use std::time::Duration;
use tally::Tally;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

#[derive(Parser)]
#[command(about = "Sends short HTTP requests at the times of a Poisson process, and measures from when they were due")]
struct Options {
    /// Address and port of the service.
    #[arg(long)]
    target: SocketAddr,
    /// Requests a second, on average.
    #[arg(long)]
    rate: f64,
    /// Seconds of load before anything counts.
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// Seconds that count.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// After which a request counts as failed.
    #[arg(long, default_value_t = 5000)]
    timeout_ms: u64,
    /// Decides the schedule.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    ensure!((0.1..=20_000.0).contains(&options.rate), "--rate is from 0.1 to 20000, not {}", options.rate);
    ensure!((0.0..=3600.0).contains(&options.warm_up), "--warm-up is up to an hour, not {}", options.warm_up);
    ensure!((0.1..=3600.0).contains(&options.seconds), "--seconds is from 0.1 to 3600, not {}", options.seconds);
    let warm_up = Duration::from_secs_f64(options.warm_up);
    let schedule = draw_schedule(options.seed, options.rate, warm_up + Duration::from_secs_f64(options.seconds));
    let (report, mut reports) = mpsc::unbounded_channel();
    let limit = Duration::from_millis(options.timeout_ms);
    let start = Instant::now() + Duration::from_millis(10);
    let arrivals = async move {
        for due in schedule {
            sleep_until(start + due).await;
            let (counts, report) = (due >= warm_up, report.clone());
            tokio::spawn(async move {
                let outcome = request::ask(options.target, start + due, limit).await;
                // The receiver waits until every sender is gone.
                let _ = counts.then(|| report.send(outcome));
            });
        }
    };
    let collection = async {
        let mut tally = Tally::new(limit)?;
        while let Some(outcome) = reports.recv().await {
            tally.record(outcome);
        }
        anyhow::Ok(tally)
    };
    let ((), tally) = tokio::join!(arrivals, collection);
    println!("{}", serde_json::to_string(&tally?.summarize(options.seconds))?);
    Ok(())
}

/// When each request is due, since the start.
fn draw_schedule(seed: u64, rate: f64, length: Duration) -> Vec<Duration> {
    let (mut random, mut at) = (Random::new(seed), 0.0);
    let next = || {
        at += random.exponential(1.0 / rate);
        Some(Duration::from_secs_f64(at))
    };
    std::iter::from_fn(next).take_while(|due| *due < length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_has_its_rate_and_the_spread_of_a_poisson_process() {
        let schedule = draw_schedule(5, 500.0, Duration::from_secs(200));
        assert!((98_000..102_000).contains(&schedule.len()), "{}", schedule.len());
        assert!(schedule.is_sorted());
        // The counts of a Poisson process have a variance like their mean.
        let mut counts = vec![0f64; 2000];
        schedule.iter().for_each(|due| counts[due.as_millis() as usize / 100] += 1.0);
        let variance = counts.iter().map(|count| (count - 50.0).powi(2)).sum::<f64>() / 2000.0;
        assert!((42.0..58.0).contains(&variance), "{variance}");
    }

    #[test]
    fn a_seed_decides_the_schedule() {
        let draw = |seed| draw_schedule(seed, 100.0, Duration::from_secs(1));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
