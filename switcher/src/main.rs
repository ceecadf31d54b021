//! `shunt-switcher`: one switching processor (patent Figs 3, 11). Its life on one page: get the descriptors from the
//! keeper, pin, map, give up every privilege, run.

use anyhow::{Context, Result};
use clap::Parser;
use log::info;
use nix::time::{ClockId, clock_gettime};
use shunt_config::{Instance, keeper_socket};
use shunt_shmlayout::header::start_time;
use shunt_switcher::handover::{Handover, HandoverError, ask};
use shunt_switcher::{assemble, privileges};
use std::time::{Duration, Instant};

/// How long a keeper that isn't there yet is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A switching processor of Shunt: polls its network interfaces and forwards, pinned to one CPU.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The instance, as named in the configuration.
    #[arg(long, default_value = "shunt")]
    instance: Instance,
    /// Which switcher this is, from 0.
    #[arg(long)]
    number: u16,
}

fn main() -> Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let arguments = Arguments::parse();
    run(&arguments).with_context(|| format!("switcher {} of instance {}", arguments.number, arguments.instance))
}

fn run(arguments: &Arguments) -> Result<()> {
    let handover = wait_for_keeper(arguments)?;
    let manifest = handover.manifest.clone();
    privileges::pin(manifest.cpu)?;
    let (mut engine, region) = assemble::assemble(arguments.number, handover)?;
    let (pid, head) = (std::process::id(), region.head);
    head.start_time.set(start_time(pid).unwrap_or(0));
    head.generation.add(1);
    head.heartbeat_ms.set(now_ms());
    head.pid.set(u64::from(pid));
    privileges::give_up(&manifest.user)?;
    let idle = if manifest.yields { "yields" } else { "spins" };
    info!("{} ports, CPU {}, user {}, {idle} when idle: running", manifest.ports.len(), manifest.cpu, manifest.user);

    // SIGTERM ends the process where it stands: all that has to outlive it is in shared memory.
    loop {
        if engine.turn(now_ms()) == 0 {
            if manifest.yields {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

fn wait_for_keeper(arguments: &Arguments) -> Result<Handover> {
    let (path, until) = (keeper_socket(&arguments.instance), Instant::now() + PATIENCE);
    loop {
        match ask(&path, arguments.number) {
            Err(HandoverError::Connect { .. }) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return Ok(other?),
        }
    }
}

/// CLOCK_MONOTONIC: a jump of the wall clock expires nothing. The coarse clock (1 to 4 ms) costs no system call.
fn now_ms() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)
        .map(|time| time.tv_sec() as u64 * 1000 + time.tv_nsec() as u64 / 1_000_000)
        .unwrap_or(0)
}
