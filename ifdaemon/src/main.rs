//! `shunt-ifdaemon`: the interface daemon (patent Fig. 8, interface daemon 53), which bridges a TUN device to the packet
//! store.
//!
//! No packet store can be configured yet, so that it attaches what every process attaches, says so, and waits to be
//! stopped. It writes no shared memory.

use clap::Parser;
use log::info;
use nix::sys::signal::{SigSet, Signal};
use shunt_config::{Instance, Lock, LockError, ifdaemon_lock, region_name};
use shunt_shmlayout::header::AttachError;
use shunt_shmlayout::map::Access;
use shunt_shmlayout::regions::{ControlRegion, KeeperRegion, Typed};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// EX_CONFIG (sysexits.h): trying again would not help.
const REFUSED: u8 = 78;
/// How long the keeper may take to make the shared memory.
const KEEPER_WITHIN: Duration = Duration::from_secs(10);
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// Bridges a TUN device to the packet store of an instance.
#[derive(Debug, Parser)]
#[command(name = "shunt-ifdaemon", version)]
struct Arguments {
    /// Which instance.
    #[arg(long, value_name = "NAME", default_value_t)]
    instance: Instance,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    match run(&arguments.instance) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shunt-ifdaemon: {error:#}");
            let is_refusal = matches!(error.downcast_ref(), Some(LockError::Held { .. }));
            if is_refusal { ExitCode::from(REFUSED) } else { ExitCode::FAILURE }
        }
    }
}

fn run(instance: &Instance) -> anyhow::Result<()> {
    // The keeper makes the lock's directory too, so that its memory is waited for first.
    attach::<KeeperRegion>(instance, "keeper")?;
    attach::<ControlRegion>(instance, "control")?;
    let _lock = Lock::take(&ifdaemon_lock(instance), "shunt-ifdaemon")?;
    info!("instance {instance}: no packet store is configured: nothing to bridge");
    let signal = wait_to_be_stopped()?;
    info!("{signal}: stopped");
    Ok(())
}

/// Tries until the keeper has made the region and finished it.
fn attach<R: Typed>(instance: &Instance, region: &str) -> Result<R, AttachError> {
    let name = region_name(instance, region);
    let deadline = Instant::now() + KEEPER_WITHIN;
    let mut told = false;
    loop {
        match R::attach(&name, Access::Read) {
            Ok((view, _)) => return Ok(view),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(error) if !told => {
                info!("waiting for shunt-keeper: {error}");
                told = true;
            }
            Err(_) => {}
        }
        std::thread::sleep(BETWEEN_TRIES);
    }
}

fn wait_to_be_stopped() -> nix::Result<Signal> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    signals.wait()
}
