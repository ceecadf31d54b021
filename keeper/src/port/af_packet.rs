//! Opening an AF_PACKET port (patent Fig. 11): the keeper's side; needs CAP_NET_RAW.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use shunt_protocol::port::{PACKET_SLOT as SLOT, Role};
use shunt_protocol::socket as system;

/// The kernel allocates rings in blocks of contiguous pages; 16 KiB are found even in fragmented memory.
const BLOCK: usize = 16 * 1024;

/// Why an AF_PACKET port couldn't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No privilege.
    #[error("AF_PACKET socket: {0}; it needs root (CAP_NET_RAW)")]
    Socket(io::Error),
    /// An option was refused.
    #[error("AF_PACKET option {option}: {error}; Linux 4.20 is the oldest that has them all")]
    Option {
        /// Its name.
        option: &'static str,
        /// The system's answer.
        error: io::Error,
    },
    /// Bind refused.
    #[error("binding to the interface: {0}; is it still there (ip link show)?")]
    Bind(io::Error),
}

/// Opens a port on an interface. Several switchers that receive on the same interface give the same `fanout` group, and
/// the kernel spreads connections over them by a hash.
pub fn open(interface: u32, slots: u32, role: Role, fanout: Option<u16>) -> Result<OwnedFd, OpenError> {
    let socket = system::create(libc::AF_PACKET).map_err(OpenError::Socket)?;
    let fd = socket.as_fd();
    set(fd, "PACKET_VERSION", libc::PACKET_VERSION, libc::tpacket_versions::TPACKET_V2 as i32)?;
    // Its own packets and the kernel's aren't arrivals.
    set(fd, "PACKET_IGNORE_OUTGOING", libc::PACKET_IGNORE_OUTGOING, 1)?;
    set(fd, "PACKET_QDISC_BYPASS", libc::PACKET_QDISC_BYPASS, 1)?;
    // A frame that the kernel refuses is skipped rather than blocking the ring. Must come before the rings.
    set(fd, "PACKET_LOSS", libc::PACKET_LOSS, 1)?;
    let slots = slots.max((BLOCK / SLOT) as u32);
    let ring = libc::tpacket_req {
        tp_block_size: BLOCK as u32,
        tp_block_nr: slots * SLOT as u32 / BLOCK as u32,
        tp_frame_size: SLOT as u32,
        tp_frame_nr: slots,
    };
    if role == Role::Both {
        set(fd, "PACKET_RX_RING", libc::PACKET_RX_RING, ring)?;
    }
    set(fd, "PACKET_TX_RING", libc::PACKET_TX_RING, ring)?;
    bind(fd, interface, role).map_err(OpenError::Bind)?;
    if let (Role::Both, Some(group)) = (role, fanout) {
        let hash = u32::from(group) | libc::PACKET_FANOUT_HASH << 16;
        set(fd, "PACKET_FANOUT", libc::PACKET_FANOUT, hash)?;
    }
    Ok(socket)
}

fn set<T: Copy>(socket: BorrowedFd<'_>, name: &'static str, option: i32, value: T) -> Result<(), OpenError> {
    system::set_option(socket, libc::SOL_PACKET, option, &value)
        .map_err(|error| OpenError::Option { option: name, error })
}

fn bind(socket: BorrowedFd<'_>, interface: u32, role: Role) -> io::Result<()> {
    // Protocol 0 receives nothing, and sends all the same.
    let protocol = match role {
        Role::Both => (libc::ETH_P_ALL as u16).to_be(),
        Role::TransmitOnly => 0,
    };
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol,
        sll_ifindex: interface as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    system::bind(socket, &address)
}
