//! Kicking the kernel to send, and to fetch what a device has received, for the ports that need it.

use std::os::fd::BorrowedFd;

use super::system;

/// After a failed kick (interface down or gone) this many flushes pass before the next try, so that a dead interface
/// costs no system call per turn.
const PAUSE: u32 = 1024;

/// When to kick, and how often it failed.
#[derive(Debug, Default)]
pub(super) struct Kick {
    /// Flushes to let pass before the next try.
    pause: u32,
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
                self.pause = PAUSE;
            }
        }
    }

    /// Counts one flush; whether kicking makes sense in it.
    #[inline]
    pub fn next_turn(&mut self) -> bool {
        let paused = self.is_paused();
        self.pause = self.pause.saturating_sub(1);
        !paused
    }

    /// Whether the last kick failed not long ago.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.pause > 0
    }

    /// Kicks that failed.
    pub fn errors(&self) -> u64 {
        self.errors
    }
}
