//! Netlink sockets and the datagrams they carry. No meaning is given to messages here.
#![allow(unsafe_code)]

use std::io;

use log::warn;
use netlink_packet_core::{NetlinkBuffer, NetlinkMessage};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::unix::AsyncFd;

use super::error::NetlinkError;

/// The kernel makes no larger netlink message in a dump (32 KiB), and no event comes near.
pub(super) const DATAGRAM_BYTES: usize = 64 << 10;

/// Opens a socket that only the kernel can send to.
pub(super) fn open() -> Result<Socket, NetlinkError> {
    let mut socket = Socket::new(NETLINK_ROUTE).map_err(NetlinkError::Open)?;
    socket.bind_auto().map_err(NetlinkError::Open)?;
    // Port 0 is the kernel: with it as the peer, nobody else's messages are received.
    socket.connect(&SocketAddr::new(0, 0)).map_err(NetlinkError::Open)?;
    Ok(socket)
}

/// Above net.core.rmem_max only with CAP_NET_ADMIN; otherwise as much as is allowed.
pub(super) fn enlarge(socket: &Socket, bytes: usize) -> Result<(), NetlinkError> {
    if setsockopt(socket, sockopt::RcvBufForce, &bytes).is_err() {
        setsockopt(socket, sockopt::RcvBuf, &bytes).map_err(|e| NetlinkError::Open(e.into()))?;
    }
    Ok(())
}

/// One datagram; EMSGSIZE if it did not fit.
pub(super) fn receive<'a>(socket: &Socket, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let received = socket.recv(&mut &mut *buffer, nix::libc::MSG_TRUNC)?;
    buffer.get(..received).ok_or(Errno::EMSGSIZE.into())
}

/// Several messages share a datagram. One that can't be decoded is skipped: the next may be whole.
pub(super) fn for_each_message(mut datagram: &[u8], mut take: impl FnMut(NetlinkMessage<RouteNetlinkMessage>)) {
    while let Ok(header) = NetlinkBuffer::new_checked(&datagram) {
        let length = header.length() as usize;
        match NetlinkMessage::deserialize(&datagram[..length]) {
            Ok(message) => take(message),
            Err(error) => warn!("skipped a netlink message of type {}: {error}", header.message_type()),
        }
        // Messages are aligned to 4 bytes (NLMSG_ALIGNTO).
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
}

/// Registers a socket with tokio, so that its readiness can be awaited.
pub(super) fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: `Socket` owns its descriptor, gives the same one out each time, and closes it only when dropped, which
    // the AsyncFd that takes it does after deregistering it.
    Ok(unsafe { AsyncFd::register(socket) }?)
}
