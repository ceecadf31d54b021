//! The system calls on a bound AF_XDP socket, one function each.

use std::io;
use std::os::fd::BorrowedFd;

use shunt_protocol::socket as system;

use crate::port::Losses;

/// Where the parts of each ring are. Kernels before 5.4 have no flags word and aren't supported.
pub(super) fn ring_offsets(socket: BorrowedFd<'_>) -> io::Result<libc::xdp_mmap_offsets> {
    let (offsets, length) = system::option::<libc::xdp_mmap_offsets>(socket, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS)?;
    if length != size_of::<libc::xdp_mmap_offsets>() {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    Ok(offsets)
}

/// Lets a zero-copy driver see new frames in the fill ring. Its error is the next turn's to see: the flag stays up.
#[inline]
pub(super) fn wake_fill(socket: BorrowedFd<'_>) {
    let _ = system::poke_receive(socket);
}

/// The kernel's name for the socket, never used twice.
pub(super) fn cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    system::option::<u64>(socket, libc::SOL_SOCKET, libc::SO_COOKIE).map(|(cookie, _)| cookie)
}

/// The kernel's own counts of what was lost, since the socket was made.
pub(super) fn statistics(socket: BorrowedFd<'_>) -> io::Result<Losses> {
    let (kernel, _) = system::option::<libc::xdp_statistics>(socket, libc::SOL_XDP, libc::XDP_STATISTICS)?;
    Ok(Losses {
        ring_full: kernel.rx_ring_full,
        // `rx_dropped` counts packets that found no free frame as well as those that are too long for one. It counts the
        // former later, so this difference may fall.
        no_frame: kernel.rx_fill_ring_empty_descs,
        invalid: kernel.rx_dropped.saturating_sub(kernel.rx_fill_ring_empty_descs)
            + kernel.rx_invalid_descs
            + kernel.tx_invalid_descs,
        send_errors: 0,
    })
}
