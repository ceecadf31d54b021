//! Netlink sockets and their datagrams. Messages are not interpreted here.

use std::io;

use log::warn;
use netlink_packet_core::{NetlinkBuffer, NetlinkDeserializable, NetlinkMessage};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

/// Receive buffer: the kernel's dump messages are at most 32 KiB, and events are much smaller.
pub const DATAGRAM_BYTES: usize = 64 << 10;

/// Opens a socket of a netlink protocol that receives from the kernel only.
pub fn open(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    // Port 0 is the kernel: a socket connected to it rejects messages from other processes.
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// Sets the receive buffer's size. Exceeding net.core.rmem_max needs CAP_NET_ADMIN; without it, the kernel caps the size.
pub fn enlarge(socket: &Socket, bytes: usize) -> io::Result<()> {
    if setsockopt(socket, sockopt::RcvBufForce, &bytes).is_err() {
        setsockopt(socket, sockopt::RcvBuf, &bytes)?;
    }
    Ok(())
}

/// Receives one datagram. EMSGSIZE: it did not fit. ENOBUFS: the kernel dropped earlier ones for lack of buffer space.
pub fn receive<'a>(socket: &Socket, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let received = socket.recv(&mut &mut *buffer, nix::libc::MSG_TRUNC)?;
    buffer.get(..received).ok_or(Errno::EMSGSIZE.into())
}

/// Passes each message of a datagram to `take`. A message that cannot be decoded is skipped with a warning.
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
