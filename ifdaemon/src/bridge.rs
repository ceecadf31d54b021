//! The daemon's loop: both directions in turn, and sleep when neither has anything.
//!
//! It looks a while longer before it sleeps, because a wake-up costs both sides a system call, and says in every store
//! that it sleeps before its last look (`store/doorbell.rs`).

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

/// How long nothing has to come before the daemon sleeps: several times what a wake-up costs.
const AWAKE: Duration = Duration::from_micros(50);
/// Longest sleep: what a switcher published before it was killed, and could not tell, waits no longer. Also the heartbeat.
const LONGEST_NAP_MS: u16 = 100;

/// Everything.
pub struct Bridge {
    /// The device.
    pub device: Device,
    /// What ends the sleep.
    pub wake: OwnedFd,
    /// To the host.
    pub to_host: ToHost,
    /// From the host.
    pub from_host: FromHost,
    /// Where each switcher looks whether the daemon sleeps.
    pub stores: Vec<&'static StoreDaemon<Writer>>,
    /// The daemon's own numbers.
    pub head: &'static IfdaemonHead<Writer>,
}

impl Bridge {
    /// Until the device is gone. SIGTERM ends the process where it stands: all that has to outlive it is in shared memory.
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
            // Empty already if two switchers' signals came as one.
            let _ = nix::unistd::read(&self.wake, &mut [0; 8]);
        }
        Ok(())
    }
}
