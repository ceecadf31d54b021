//! The TUN device: one packet per system call, behind a vnet header if it has offloads. Non-blocking.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::{read, write};

/// The device that the keeper handed over.
pub struct Device {
    descriptor: OwnedFd,
}

impl Device {
    /// The keeper opened the descriptor as non-blocking.
    pub fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor }
    }

    /// Reads the next packet and returns its length, headers included; `None` if there is none.
    pub fn read(&self, to: &mut [u8]) -> nix::Result<Option<usize>> {
        match read(&self.descriptor, to) {
            Ok(length) => Ok(Some(length)),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Writes a packet. An error concerns this packet only, or the device is down.
    pub fn write(&self, packet: &[u8]) -> nix::Result<()> {
        write(&self.descriptor, packet).map(drop)
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
