//! The daemon's loop: serves both directions in turn, and sleeps when neither has packets.
//!
//! It keeps polling for a while before it sleeps, because a wake-up costs both sides a system call. It arms every store's
//! doorbell before its last check (`store/doorbell.rs`).

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::clock::coarse_now_ms;
use shunt_shmlayout::regions::{IfdaemonHead, StoreDaemon};

use crate::device::Device;
use crate::from_host::{FromHost, Progress};
use crate::to_host::ToHost;

/// Idle time before the daemon sleeps: several times the cost of a wake-up.
const AWAKE: Duration = Duration::from_micros(50);
/// Longest sleep, and so the heartbeat interval. It bounds the delay of packets whose switcher was killed between
/// publishing and ringing.
const LONGEST_NAP_MS: u16 = 100;

/// The daemon's state.
pub struct Bridge {
    /// The TUN device.
    pub device: Device,
    /// The eventfd that ends the sleep.
    pub wake: OwnedFd,
    /// Switchers to device.
    pub to_host: ToHost,
    /// Device to switchers.
    pub from_host: FromHost,
    /// The doorbell of each store, which its switcher reads.
    pub stores: Vec<&'static StoreDaemon<Writer>>,
    /// The daemon's counters.
    pub head: &'static IfdaemonHead<Writer>,
}

impl Bridge {
    /// Runs until the device is gone. SIGTERM ends the process at any point: all persistent state is in shared memory.
    pub fn run(&mut self) -> nix::Result<()> {
        let mut last_moved = Instant::now();
        loop {
            self.head.heartbeat_ms.set(coarse_now_ms());
            let moved = self.to_host.turn(&self.device);
            match self.from_host.turn(&self.device)? {
                Progress::Moved => last_moved = Instant::now(),
                Progress::Waits => std::thread::yield_now(),
                Progress::Idle if moved => last_moved = Instant::now(),
                Progress::Idle if last_moved.elapsed() < AWAKE => std::hint::spin_loop(),
                Progress::Idle => self.sleep()?,
            }
        }
    }

    fn sleep(&mut self) -> nix::Result<()> {
        self.stores.iter().for_each(|store| store.doorbell.arm());
        if !self.to_host.has_packet() {
            self.wait()?;
        }
        self.stores.iter().for_each(|store| store.doorbell.disarm());
        Ok(())
    }

    fn wait(&self) -> nix::Result<()> {
        let mut events =
            [PollFd::new(self.device.as_fd(), PollFlags::POLLIN), PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
        match poll(&mut events, PollTimeout::from(LONGEST_NAP_MS)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        if events[1].any() == Some(true) {
            // Already empty if the signals of two switchers were merged.
            let _ = nix::unistd::read(&self.wake, &mut [0; 8]);
        }
        Ok(())
    }
}
