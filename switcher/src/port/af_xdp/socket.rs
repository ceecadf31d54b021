//! The system calls of an AF_XDP socket, one function each.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::port::{Losses, system};

/// `XDP_MAX_TX_SKB_BUDGET`: packets that one kick may send in copy mode (32 unless raised). Not in libc yet.
const XDP_MAX_TX_SKB_BUDGET: i32 = 9;

/// A new AF_XDP socket.
pub(super) fn create() -> io::Result<OwnedFd> {
    system::create(libc::AF_XDP)
}

fn set_option<T: Copy>(socket: BorrowedFd<'_>, option: i32, value: &T) -> io::Result<()> {
    system::set_option(socket, libc::SOL_XDP, option, value)
}

/// Makes `length` bytes at `address` the socket's frame pool.
///
/// The kernel pins the pages itself, so the mapping may go away afterwards without harm.
pub(super) fn register_umem(socket: BorrowedFd<'_>, address: u64, length: u64, chunk: u32) -> io::Result<()> {
    let registration =
        libc::xdp_umem_reg { addr: address, len: length, chunk_size: chunk, headroom: 0, flags: 0, tx_metadata_len: 0 };
    set_option(socket, libc::XDP_UMEM_REG, &registration)
}

/// Makes one of the rings.
pub(super) fn set_ring(socket: BorrowedFd<'_>, ring: i32, slots: u32) -> io::Result<()> {
    set_option(socket, ring, &slots)
}

/// Lets one kick send up to `packets`.
pub(super) fn set_budget(socket: BorrowedFd<'_>, packets: u32) -> io::Result<()> {
    set_option(socket, XDP_MAX_TX_SKB_BUDGET, &packets)
}

/// Lets receive calls fetch up to `packets` from the device.
pub(super) fn set_busy_poll(socket: BorrowedFd<'_>, packets: u32) -> io::Result<()> {
    // Any time but zero switches it on; a call that must not block looks once.
    const TIME_US: u32 = 20;
    let options = [(libc::SO_PREFER_BUSY_POLL, 1), (libc::SO_BUSY_POLL, TIME_US), (libc::SO_BUSY_POLL_BUDGET, packets)];
    options.iter().try_for_each(|(option, value)| system::set_option(socket, libc::SOL_SOCKET, *option, value))
}

/// The NAPI instance that a bound socket's packets come from; 0 if the kernel doesn't know.
pub(super) fn napi_id(socket: BorrowedFd<'_>) -> io::Result<u32> {
    system::option::<u32>(socket, libc::SOL_SOCKET, libc::SO_INCOMING_NAPI_ID).map(|(id, _)| id)
}

/// Binds to an interface queue.
pub(super) fn bind(
    socket: BorrowedFd<'_>,
    interface: u32,
    queue: u32,
    flags: u16,
    shared_with: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: flags,
        sxdp_ifindex: interface,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: shared_with.map_or(0, |socket| socket.as_raw_fd() as u32),
    };
    system::bind(socket, &address)
}

/// Where the parts of each ring are. Kernels before 5.4 have no flags word and aren't supported.
pub(super) fn ring_offsets(socket: BorrowedFd<'_>) -> io::Result<libc::xdp_mmap_offsets> {
    let (offsets, length) = system::option::<libc::xdp_mmap_offsets>(socket, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS)?;
    if length != size_of::<libc::xdp_mmap_offsets>() {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    Ok(offsets)
}

/// Whether the bound socket works without copying.
pub(super) fn is_zero_copy(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let (options, _) = system::option::<libc::xdp_options>(socket, libc::SOL_XDP, libc::XDP_OPTIONS)?;
    Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
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
