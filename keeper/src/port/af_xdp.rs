//! Opening a queue (patent Fig. 11): socket, frame pool, rings, bind. The keeper's side; needs CAP_NET_RAW.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::Duration;

use memmap2::MmapRaw;

use shunt_protocol::port::BATCH;
use shunt_shmlayout::frames::CHUNK;

use super::socket;

/// A queue whose last socket was just closed stays busy for 7 to 28 ms.
const BUSY_TRIES: u32 = 20;
const BUSY_WAIT: Duration = Duration::from_millis(5);
/// Packets one kick may send; 256 empties the usual ring at once.
const SEND_BUDGET: u32 = 256;
/// Packets that one busy poll may fetch: a batch.
const BUSY_POLL_BUDGET: u32 = BATCH as u32;

/// How packets get into the frame pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindMode {
    /// The device writes them there.
    ZeroCopy,
    /// The kernel copies them there.
    Copy,
}

/// Where a socket's frame pool comes from.
#[derive(Clone, Copy)]
pub enum Sharing<'a> {
    /// The first socket of a switcher registers the pool.
    Register(&'a MmapRaw),
    /// The others share it with a bound socket; they take its mode over.
    With(BorrowedFd<'a>),
}

/// Why a queue couldn't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No privilege, or no AF_XDP in this kernel.
    #[error("AF_XDP socket: {0}; it needs root (CAP_NET_RAW) and a kernel with CONFIG_XDP_SOCKETS")]
    Socket(io::Error),
    /// Registration refused.
    #[error(
        "registering the frame pool: {0}; it counts against the memlock limit unless the keeper has CAP_IPC_LOCK (ulimit -l unlimited)"
    )]
    Register(io::Error),
    /// Ring refused.
    #[error("ring of {slots} slots: {error}; limits.ring must be a power of two")]
    Ring {
        /// Slots asked for.
        slots: u32,
        /// The system's answer.
        error: io::Error,
    },
    /// Bind refused.
    #[error("binding queue {queue}: {error}; {}", advice(.error))]
    Bind {
        /// The interface's queue.
        queue: u32,
        /// The system's answer.
        error: io::Error,
    },
}

impl OpenError {
    /// Whether another socket has the queue.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Bind { error, .. } if error.raw_os_error() == Some(libc::EBUSY))
    }

    /// Whether the driver lacks the mode, so that another may work.
    pub fn is_unsupported(&self) -> bool {
        let OpenError::Bind { error, .. } = self else {
            return false;
        };
        // A driver without zero-copy says EOPNOTSUPP; some that lack it for this set-up (MTU, ring size) say EINVAL.
        matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL))
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EBUSY) => "another process has it: stop that one (ss --xdp shows sockets)",
        Some(libc::EINVAL) => "the interface may have fewer queues (ethtool -l), or its MTU doesn't fit a frame",
        Some(libc::EOPNOTSUPP) => "the driver doesn't have this mode: set interface.mode = \"native-copy\"",
        Some(libc::ENODEV | libc::ENXIO) => "the interface is gone",
        Some(libc::ENETDOWN) => "set the interface up (ip link set dev NAME up)",
        _ => "set interface.port = \"af_packet\" to go without AF_XDP",
    }
}

/// Opens one interface queue; the socket is bound and ready to be mapped by a switcher.
pub fn open(
    interface: u32,
    queue: u32,
    slots: u32,
    sharing: Sharing<'_>,
    mode: BindMode,
) -> Result<OwnedFd, OpenError> {
    let socket = socket::create().map_err(OpenError::Socket)?;
    let fd = socket.as_fd();
    if let Sharing::Register(memory) = sharing {
        socket::register_umem(fd, memory.as_ptr() as u64, memory.len() as u64, CHUNK as u32)
            .map_err(OpenError::Register)?;
    }
    for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_RX_RING, libc::XDP_TX_RING] {
        socket::set_ring(fd, ring, slots).map_err(|error| OpenError::Ring { slots, error })?;
    }
    // Kernels before 6.17 have no such option: their kicks send 32 at a time, and the switcher kicks again.
    if let Err(error) = socket::set_budget(fd, SEND_BUDGET) {
        log::debug!("XDP_MAX_TX_SKB_BUDGET: {error}");
    }
    bind(fd, interface, queue, sharing, mode).map_err(|error| OpenError::Bind { queue, error })?;
    Ok(socket)
}

fn bind(fd: BorrowedFd<'_>, interface: u32, queue: u32, sharing: Sharing<'_>, mode: BindMode) -> io::Result<()> {
    let (flags, shared_with) = match (sharing, mode) {
        // The kernel refuses any other flag here: mode and wake-up follow the first socket.
        (Sharing::With(socket), _) => (libc::XDP_SHARED_UMEM, Some(socket)),
        (Sharing::Register(_), BindMode::ZeroCopy) => (libc::XDP_ZEROCOPY | libc::XDP_USE_NEED_WAKEUP, None),
        (Sharing::Register(_), BindMode::Copy) => (libc::XDP_COPY | libc::XDP_USE_NEED_WAKEUP, None),
    };
    let mut tries = 0;
    loop {
        match socket::bind(fd, interface, queue, flags, shared_with) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && tries < BUSY_TRIES => {
                tries += 1;
                sleep(BUSY_WAIT);
            }
            result => return result,
        }
    }
}

/// Makes the socket's receive calls fetch the queue's packets (`SO_PREFER_BUSY_POLL`, Linux 5.11), which
/// spares another CPU the interrupt. It needs CAP_NET_ADMIN, and the interface's interrupts to be put off meanwhile.
pub fn prefer_busy_poll(socket: BorrowedFd<'_>) -> io::Result<()> {
    socket::set_busy_poll(socket, BUSY_POLL_BUDGET)
}

/// Whether receive calls of a bound socket can fetch packets at all. From Linux 6.13 on a socket learns at bind which NAPI
/// instance its queue has, but not from every driver and in every mode, never on veth; before, it learns it from its first packet.
pub fn can_busy_poll(socket: BorrowedFd<'_>) -> bool {
    socket::napi_id(socket).map_or(true, |id| id != 0) || kernel_before(6, 13)
}

fn kernel_before(major: u32, minor: u32) -> bool {
    let Ok(names) = nix::sys::utsname::uname() else { return false };
    let release = names.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (major, minor)
}

/// An unbound socket, as a value for an XDP map.
#[cfg(test)]
pub(crate) fn unbound() -> io::Result<OwnedFd> {
    socket::create()
}
