//! Requests to the kernel over netlink, of any family: each is answered before the next is made.

use std::io;

use netlink_packet_core::{
    NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};

/// The kernel makes no larger message (32 KiB in a dump).
const DATAGRAM_BYTES: usize = 64 << 10;

/// A socket for requests.
pub(super) struct Requests {
    socket: Socket,
    sequence: u32,
}

impl Requests {
    /// For one of netlink's protocols.
    pub fn open(protocol: isize) -> io::Result<Requests> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        // Port 0 is the kernel: with it as the peer, nobody else's messages are received.
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Requests { socket, sequence: 0 })
    }

    /// Sends one, and gives what is answered to `take`. `flags` must ask for an end: NLM_F_ACK or NLM_F_DUMP.
    pub fn exchange<T>(&mut self, request: T, flags: u16, mut take: impl FnMut(T)) -> io::Result<()>
    where
        T: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<T>>,
    {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, request.into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut buffer = vec![0; DATAGRAM_BYTES];
        loop {
            let received = match self.socket.recv(&mut &mut buffer[..], 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if let Some(end) = read(&buffer[..received], self.sequence, &mut take) {
                return end;
            }
        }
    }
}

/// Reads the messages of a datagram; the end of the answer, if it is among them.
fn read<T: NetlinkDeserializable>(
    mut datagram: &[u8],
    sequence: u32,
    take: &mut impl FnMut(T),
) -> Option<io::Result<()>> {
    while let Ok(header) = NetlinkBuffer::new_checked(&datagram) {
        let length = header.length() as usize;
        match NetlinkMessage::<T>::deserialize(&datagram[..length]) {
            // Left over from a request that failed half way.
            Ok(message) if message.header.sequence_number != sequence => {}
            Ok(message) => match message.payload {
                NetlinkPayload::Done(_) => return Some(Ok(())),
                NetlinkPayload::Error(error) if error.code.is_none() => return Some(Ok(())),
                NetlinkPayload::Error(error) => return Some(Err(error.to_io())),
                NetlinkPayload::InnerMessage(inner) => take(inner),
                _ => {}
            },
            Err(error) => log::warn!("skipped a netlink message of type {}: {error}", header.message_type()),
        }
        // Messages are aligned to 4 bytes (NLMSG_ALIGNTO).
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    None
}
