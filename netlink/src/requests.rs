//! Synchronous netlink requests to the kernel, of any family.

use std::io;

use netlink_packet_core::{
    NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_sys::Socket;

use crate::socket::{self, DATAGRAM_BYTES};

/// A socket for requests, each answered before the next is sent.
pub struct RequestSocket {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl RequestSocket {
    /// Opens a socket of a netlink protocol (`NETLINK_ROUTE` and so on).
    pub fn open(protocol: isize) -> io::Result<Self> {
        Ok(Self { socket: socket::open(protocol)?, sequence: 0, buffer: vec![0; DATAGRAM_BYTES] })
    }

    /// Sends a request and passes each answer to `take`. `flags` must include NLM_F_ACK or NLM_F_DUMP, so that the answer has
    /// an end. Returns false if a change interrupted the dump, which is then inconsistent. Errors come from the kernel or
    /// the socket.
    pub fn exchange<T>(&mut self, request: T, flags: u16, take: impl FnMut(T, u16)) -> io::Result<bool>
    where
        T: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<T>>,
    {
        self.send(request, flags)?;
        self.answers(take)
    }

    fn send<T>(&mut self, request: T, flags: u16) -> io::Result<()>
    where
        T: NetlinkSerializable + Into<NetlinkPayload<T>>,
    {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, request.into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }

    /// Reads all answers to the last request.
    fn answers<T: NetlinkDeserializable>(&mut self, mut take: impl FnMut(T, u16)) -> io::Result<bool> {
        let sequence = self.sequence;
        let mut consistent = true;
        loop {
            let datagram = match socket::receive(&self.socket, &mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            let mut end = None;
            socket::for_each_message(datagram, |message: NetlinkMessage<T>| {
                // A late answer to an earlier request that failed.
                if message.header.sequence_number != sequence {
                    return;
                }
                consistent &= message.header.flags & NLM_F_DUMP_INTR == 0;
                match message.payload {
                    NetlinkPayload::Done(_) => end = Some(Ok(())),
                    NetlinkPayload::Error(error) if error.code.is_none() => end = Some(Ok(())),
                    NetlinkPayload::Error(error) => end = Some(Err(error.to_io())),
                    NetlinkPayload::InnerMessage(inner) => take(inner, message.header.flags),
                    _ => {}
                }
            });
            if let Some(end) = end {
                return end.map(|()| consistent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
    use netlink_packet_route::RouteNetlinkMessage;
    use netlink_packet_route::link::LinkMessage;
    use netlink_sys::protocols::NETLINK_ROUTE;

    #[test]
    fn a_refusal_ends_its_request_alone() {
        let mut requests = RequestSocket::open(NETLINK_ROUTE).unwrap();
        let mut nobody = LinkMessage::default();
        nobody.header.index = i32::MAX as u32;
        let refused = requests.exchange(RouteNetlinkMessage::GetLink(nobody), NLM_F_ACK, |_, _| panic!("an answer"));
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(nix::libc::ENODEV));
        let mut found = 0;
        let all = RouteNetlinkMessage::GetLink(LinkMessage::default());
        requests.exchange(all, NLM_F_DUMP, |_, _| found += 1).unwrap();
        assert!(found > 0, "the loopback interface at least");
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let mut requests = RequestSocket::open(NETLINK_ROUTE).unwrap();
        requests.buffer.truncate(16);
        let all = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let lost = requests.exchange(all, NLM_F_DUMP, |_, _| {}).unwrap_err();
        assert_eq!(lost.raw_os_error(), Some(nix::libc::EMSGSIZE));
    }
}
