//! Packet sockets (packet(7)): send and receive below the kernel's IP layer, each with a link and an Ethernet address. All
//! need CAP_NET_RAW.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::io::unix::AsyncFd;

use shunt_routing::event::Mac;

/// An EtherType: IPv4.
pub const IPV4: u16 = libc::ETH_P_IP as u16;
/// An EtherType: ARP.
pub const ARP: u16 = libc::ETH_P_ARP as u16;

/// One filter instruction: `code`, `jt`, `jf`, `k` of struct sock_filter (linux/filter.h).
pub type Instruction = (u16, u8, u8, u32);

/// Opens a non-blocking socket that receives nothing: with protocol 0 the kernel queues nothing. `Raw` sends frames,
/// `Datagram` sends packets to which the kernel adds the Ethernet header.
pub fn open(kind: SockType) -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Packet, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?)
}

/// Receives packets that arrive or leave on one link.
pub fn bind(socket: impl AsFd, ifindex: u32, ether_type: u16) -> io::Result<()> {
    let to = link_address(ifindex, ether_type, [0; 6])?;
    // SAFETY: `to` is live for the call, the length is its own, and a sockaddr_ll is what a packet socket is bound to;
    // the borrow keeps the descriptor open.
    let bound = unsafe {
        libc::bind(
            socket.as_fd().as_raw_fd(),
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sends a frame, or a packet to an Ethernet address.
pub fn send(socket: impl AsFd, ifindex: u32, ether_type: u16, mac: Mac, bytes: &[u8]) -> io::Result<()> {
    let to = link_address(ifindex, ether_type, mac)?;
    // SAFETY: `bytes` and `to` are live for the call, the lengths are theirs, and a sockaddr_ll is what a packet socket
    // reads; the borrow keeps the descriptor open.
    let sent = unsafe {
        libc::sendto(
            socket.as_fd().as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            0,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Registers a socket with tokio to await its readiness.
pub fn register(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd gives the same descriptor out each time, and closes it only when dropped, which the AsyncFd that
    // takes it does after deregistering it.
    Ok(unsafe { AsyncFd::register(socket) }?)
}

/// Restricts a socket of any kind to what the program accepts (SO_ATTACH_FILTER).
pub fn filter(socket: impl AsFd, program: &[Instruction]) -> io::Result<()> {
    let mut program: Vec<libc::sock_filter> =
        program.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let filter = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: `filter` and the program that it points to are live for the call, in which the kernel copies and checks
    // them; the borrow keeps the descriptor open.
    let set = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn link_address(ifindex: u32, ether_type: u16, mac: Mac) -> io::Result<libc::sockaddr_ll> {
    let [a, b, c, d, e, f] = mac;
    Ok(libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ether_type.to_be(),
        sll_ifindex: i32::try_from(ifindex).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [a, b, c, d, e, f, 0, 0],
    })
}
