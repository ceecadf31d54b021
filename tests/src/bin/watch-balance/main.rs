//! Looks at how a running Shunt shares connections out, as `tests/bench/balance` needs it: over time, or in the milliseconds
//! after a back-end's load has made a step. An ordinary reader of the shared memory, like `shunt`.

mod shares;
mod step;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use shares::Watcher;
use shunt_process::Instance;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

#[derive(Parser)]
#[command(about = "Shows how connections are shared out among the back-ends of an instance's first service")]
struct Options {
    /// The instance.
    #[arg(long)]
    instance: Instance,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Prints lines "SECONDS BACKEND SLOTS% CONNECTIONS IN-FLIGHT": its share of the slots in force, connections opened since
    /// the line before, requests in flight as it reported.
    Trace {
        #[arg(long, default_value_t = 10.0)]
        seconds: f64,
        #[arg(long, default_value_t = 500)]
        interval_ms: u64,
    },
    /// Puts a burst of requests into one back-end again and again, and prints one JSON object: milliseconds until its report
    /// stood before the switchers, and until they used a distribution that gives it less.
    Step {
        /// Which back-end.
        #[arg(long)]
        backend: String,
        /// Its metrics port.
        #[arg(long)]
        orders: SocketAddr,
        #[arg(long, default_value_t = 20)]
        steps: usize,
        /// Requests of a burst.
        #[arg(long, default_value_t = 60)]
        burst: u32,
        /// Between two steps, for everything to become as before.
        #[arg(long, default_value_t = 3000)]
        pause_ms: u64,
    },
}

fn main() -> Result<()> {
    let options = Options::parse();
    let watcher = Watcher::attach(&options.instance)?;
    match options.what {
        What::Trace { seconds, interval_ms } => trace(&watcher, seconds, Duration::from_millis(interval_ms)),
        What::Step { backend, orders, steps, burst, pause_ms } => {
            let backend = watcher.find(&backend).with_context(|| format!("no back-end is called {backend}"))?;
            ensure!(steps > 0, "--steps is at least 1");
            let pause = Duration::from_millis(pause_ms);
            println!("{}", serde_json::to_string(&step::measure(&watcher, backend, orders, steps, burst, pause)?)?);
            Ok(())
        }
    }
}

fn trace(watcher: &Watcher, seconds: f64, interval: Duration) -> Result<()> {
    let (start, mut before) = (Instant::now(), watcher.look()?);
    while start.elapsed().as_secs_f64() < seconds {
        std::thread::sleep(interval);
        let now = watcher.look()?;
        // One for all lines of a look: by it they are put together again.
        let elapsed_s = start.elapsed().as_secs_f64();
        for share in &now.shares {
            let opened_before = before.of(share.backend).map_or(share.opened, |share| share.opened);
            println!(
                "{elapsed_s:.3} {} {:.2} {} {}",
                watcher.name(share.backend),
                100.0 * share.slots,
                share.opened.saturating_sub(opened_before),
                share.in_flight
            );
        }
        before = now;
    }
    Ok(())
}
