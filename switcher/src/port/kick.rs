//! Kicking the kernel to send, and to fetch what a device has received, for the ports that need it.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use shunt_protocol::socket as system;

/// After a failed kick (interface down or gone) this long passes before the next try, so that a dead interface costs no
/// system call per turn.
const PAUSE: Duration = Duration::from_millis(2);

/// Frames queued before the kernel is kicked within a turn. Fewer waste system calls (850 against 500 ns a packet), more
/// let the first ones wait.
pub(super) const BURST: u32 = 32;

/// When to kick, and how often it failed.
#[derive(Debug, Default)]
pub(super) struct Kick {
    /// Not before, after a failure. The clock is read only then.
    not_before: Option<Instant>,
    errors: u64,
}

impl Kick {
    /// Lets the kernel send what stands in the transmit ring. Never blocks.
    #[inline]
    pub fn kick(&mut self, socket: BorrowedFd<'_>) {
        self.judge(system::poke_send(socket));
    }

    /// Lets the kernel fetch packets from the device into the receive ring. Never blocks.
    #[inline]
    pub fn fetch(&mut self, socket: BorrowedFd<'_>) {
        self.judge(system::poke_receive(socket));
    }

    #[inline]
    fn judge(&mut self, result: Result<(), i32>) {
        match result {
            // What is left over is kicked again at the next flush.
            Ok(()) | Err(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR) => {}
            // ENETDOWN: works again after up. ENXIO: the interface is gone.
            Err(_) => {
                self.errors += 1;
                self.not_before = Some(Instant::now() + PAUSE);
            }
        }
    }

    /// At each flush: whether kicking makes sense in it.
    #[inline]
    pub fn next_turn(&mut self) -> bool {
        if self.not_before.is_some_and(|time| Instant::now() >= time) {
            self.not_before = None;
        }
        !self.is_paused()
    }

    /// Whether the last kick failed not long ago.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.not_before.is_some()
    }

    /// Kicks that failed since the last call.
    pub fn take_errors(&mut self) -> u64 {
        std::mem::take(&mut self.errors)
    }
}
