//! The system calls that make and bind an AF_XDP socket, one function each.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use shunt_protocol::socket as system;

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
