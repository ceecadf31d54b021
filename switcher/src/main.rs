//! `shunt-switcher`: one switching processor (patent Figs 3, 11). In order: get the descriptors from the
//! keeper, pin the thread, raise its priority if it waits for packets, map, drop all privileges, run.

use std::convert::Infallible;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use log::{info, warn};
use shunt_process::privileges::{self, PrivilegeError};
use shunt_process::{Instance, give_up, keeper_socket, start_log};
use shunt_protocol::handover::{HandoverError, ask, wait_for_keeper};
use shunt_protocol::idle::Idle;
use shunt_shmlayout::clock::coarse_now_ms as now_ms;
use shunt_shmlayout::header::start_time;
use shunt_switcher::assemble;
use shunt_switcher::idle::Pause;

/// A switching processor of Shunt: polls its network interfaces and forwards, pinned to one CPU.
#[derive(Parser)]
#[command(name = "shunt-switcher", version)]
struct Arguments {
    /// The instance, as named in the configuration.
    #[arg(long, default_value = "shunt")]
    instance: Instance,
    /// Which switcher this is, from 0.
    #[arg(long)]
    number: u16,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log(true);
    let Err(error) = run(&arguments);
    let Arguments { instance, number } = arguments;
    let reason = format_args!("switcher {number} of instance {instance}: {error:#}");
    give_up("shunt-switcher", reason, is_refusal(&error))
}

/// Whether a restart would fail in the same way.
fn is_refusal(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(HandoverError::is_refusal)
        || error.downcast_ref().is_some_and(PrivilegeError::is_refusal)
}

fn run(arguments: &Arguments) -> Result<Infallible> {
    let keeper = keeper_socket(&arguments.instance);
    let handover = wait_for_keeper(|| ask(&keeper, arguments.number), |waits| info!("{waits}"))?;
    let manifest = handover.manifest.clone();
    privileges::pin(manifest.cpu)?;
    // Only if all packets arrive by receive threads of this CPU: those that arrive by interrupts of another one would let this
    // process starve all others here.
    let all_threaded = manifest.ports.iter().all(|port| port.threaded || !port.receives);
    if manifest.idle == Idle::Wait
        && all_threaded
        && let Err(error) = privileges::set_real_time()
    {
        warn!("{error}");
    }
    let (mut engine, region) = assemble::assemble(arguments.number, handover)?;
    let (pid, head) = (std::process::id(), region.head);
    head.start_time.set(start_time(pid).unwrap_or(0));
    head.generation.add(1);
    head.heartbeat_ms.set(now_ms());
    head.pid.set(u64::from(pid));
    privileges::drop_to(&manifest.user)?;
    let pause = Pause::new(manifest.idle, engine.readable()).context("epoll on the ports")?;
    let idle = format!("{:?}", manifest.idle).to_lowercase();
    info!("{} ports, CPU {}, user {}, idle: {idle}: running", manifest.ports.len(), manifest.cpu, manifest.user);

    // SIGTERM needs no handler: everything that must outlive the process is in shared memory.
    loop {
        if engine.turn(now_ms()) == 0 {
            pause.make();
        }
    }
}
