//! Netlink sockets and the datagrams they carry. No meaning is given to messages here.

use std::io;

use log::warn;
use netlink_packet_core::{NetlinkBuffer, NetlinkDeserializable, NetlinkMessage};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

/// The kernel makes no larger netlink message in a dump (32 KiB), and no event comes near.
pub const DATAGRAM_BYTES: usize = 64 << 10;

/// Opens a socket of one of netlink's protocols that only the kernel can send to.
pub fn open(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    // Port 0 is the kernel: with it as the peer, nobody else's messages are received.
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// Above net.core.rmem_max only with CAP_NET_ADMIN; otherwise as much as is allowed.
pub fn enlarge(socket: &Socket, bytes: usize) -> io::Result<()> {
    if setsockopt(socket, sockopt::RcvBufForce, &bytes).is_err() {
        setsockopt(socket, sockopt::RcvBuf, &bytes)?;
    }
    Ok(())
}

/// One datagram; EMSGSIZE if it did not fit, ENOBUFS if the kernel had no room for others before it.
pub fn receive<'a>(socket: &Socket, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let received = socket.recv(&mut &mut *buffer, nix::libc::MSG_TRUNC)?;
    buffer.get(..received).ok_or(Errno::EMSGSIZE.into())
}

/// Several messages share a datagram. One that can't be decoded is skipped: the next may be whole.
pub fn for_each_message<T: NetlinkDeserializable>(mut datagram: &[u8], mut take: impl FnMut(NetlinkMessage<T>)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::RouteNetlinkMessage;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_datagrams_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for_each_message(&bytes, |_: NetlinkMessage<RouteNetlinkMessage>| {});
        }
    }
}
