//! `shunt-ifdaemon`: the interface daemon (patent Fig. 8, interface daemon 53), which bridges a TUN device to the packet
//! stores of the switchers.
//!
//! Its life in short: get device and stores from the keeper, map them, drop all privileges, run. It writes its own region
//! and its ends of the stores; the device outlives it in the keeper.

mod addresses;
mod bridge;
mod device;
mod from_host;
mod inspect;
mod offload;
mod to_host;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use log::info;
use nix::sys::signal::{SigSet, Signal};
use shunt_process::privileges;
use shunt_process::{Instance, Lock, LockError, give_up, ifdaemon_lock, keeper_socket, start_log};
use shunt_protocol::handover::ifdaemon::{DeviceHandover, ask};
use shunt_protocol::handover::{HandoverError, wait_for_keeper};
use shunt_shmlayout::access::{Reader, Writer};
use shunt_shmlayout::header::start_time;
use shunt_shmlayout::regions::{IfdaemonRegion, StoreRegion, Typed};

use addresses::Addresses;
use bridge::Bridge;
use device::Device;
use from_host::FromHost;
use to_host::ToHost;

/// Bridges a TUN device to the packet stores of an instance.
#[derive(Debug, Parser)]
#[command(name = "shunt-ifdaemon", version)]
struct Arguments {
    /// Name of the instance.
    #[arg(long, value_name = "NAME", default_value_t)]
    instance: Instance,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log(true);
    match run(&arguments.instance) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => give_up("shunt-ifdaemon", format_args!("{error:#}"), is_refusal(&error)),
    }
}

/// Whether a restart would fail in the same way.
fn is_refusal(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(LockError::is_refusal)
        || error.downcast_ref().is_some_and(HandoverError::is_refusal)
}

fn run(instance: &Instance) -> anyhow::Result<()> {
    let _lock = Lock::take(&ifdaemon_lock(instance), "shunt-ifdaemon")?;
    let keeper = keeper_socket(instance);
    let Some(handover) = wait_for_keeper(|| ask(&keeper), |waits| info!("{waits}"))? else {
        info!("instance {instance}: no pseudo-interface is configured ([host]): nothing to bridge");
        info!("{}: stopped", wait_to_be_stopped()?);
        return Ok(());
    };
    let manifest = handover.manifest.clone();
    let mut bridge = assemble(handover)?;
    let head = bridge.head;
    head.start_time.set(start_time(std::process::id()).unwrap_or(0));
    head.generation.add(1);
    head.pid.set(std::process::id().into());
    privileges::drop_to(&manifest.user)?;
    let offloads = if manifest.has_offloads { "with" } else { "without" };
    info!("{}: MTU {}, {offloads} offloads, user {}: running", manifest.device, manifest.mtu, manifest.user);
    bridge.run().with_context(|| {
        format!(
            "network device {}: it was removed? kill -9 the keeper's pid (shunt --instance {instance} processes): its \
             successor sets the device up again with addresses, rules and route, and packets of clients go on",
            manifest.device
        )
    })
}

/// Maps all regions, and continues where a predecessor stopped.
fn assemble(handover: DeviceHandover) -> anyhow::Result<Bridge> {
    let manifest = handover.manifest;
    let (region, _) = IfdaemonRegion::<Writer>::from_fd(&handover.region, "ifdaemon")?;
    let stores = handover.stores.iter().enumerate();
    let stores = stores.map(|(number, fd)| StoreRegion::<Reader, Writer>::from_fd(fd, &format!("store.{number}")));
    let stores = stores.map(|mapped| mapped.map(|(store, _)| store)).collect::<Result<Vec<_>, _>>()?;
    // A predecessor that was killed while asleep leaves the doorbell armed.
    stores.iter().filter(|store| store.daemon.doorbell.is_armed()).for_each(|store| store.daemon.doorbell.disarm());
    let head = region.head;
    let to_host = stores.iter().map(|store| store.to_host.consumer()).collect();
    let from_host = stores.iter().map(|store| (store.from_host.producer(), store.daemon)).collect();
    let addresses = Addresses::new(manifest.device);
    Ok(Bridge {
        device: Device::new(handover.device),
        wake: handover.wake,
        to_host: ToHost::new(to_host, head, manifest.has_offloads),
        from_host: FromHost::new(from_host, head, addresses, manifest.mtu, manifest.has_offloads),
        stores: stores.iter().map(|store| store.daemon).collect(),
        head,
    })
}

fn wait_to_be_stopped() -> nix::Result<Signal> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    signals.wait()
}
