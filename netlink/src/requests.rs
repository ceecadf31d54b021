//! Synchronous netlink requests to the kernel, of any family.

use std::io;

use netlink_packet_core::{
    DoneMessage, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::Socket;

use crate::socket::{self, DATAGRAM_BYTES};

/// Attempts at a dump that changes interrupt.
pub const MAX_DUMPS: usize = 5;

/// Whether a dump is consistent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an interrupted dump may lack entries"]
pub enum Dump {
    /// No change interrupted it.
    Consistent,
    /// A change interrupted it: entries may be missing or duplicated.
    Interrupted,
}

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

    /// Sends a request and passes each answer to `take`. `flags` must include NLM_F_ACK, so that the answer has an end. Errors
    /// come from the kernel or the socket.
    pub fn exchange<T>(&mut self, request: T, flags: u16, take: impl FnMut(T, u16)) -> io::Result<()>
    where
        T: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<T>>,
    {
        self.send(request, flags)?;
        // Only a dump can be interrupted.
        self.answers(take).map(|_| ())
    }

    /// Requests a dump once and passes each of its messages to `take`.
    pub fn dump<T>(&mut self, request: T, take: impl FnMut(T, u16)) -> io::Result<Dump>
    where
        T: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<T>>,
    {
        self.send(request, NLM_F_DUMP)?;
        self.answers(take)
    }

    /// Returns what `choose` picks from a consistent dump. Fails if changes interrupt every attempt.
    pub fn list<T, U>(&mut self, request: T, choose: impl Fn(T) -> Option<U>) -> io::Result<Vec<U>>
    where
        T: Clone + NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<T>>,
    {
        first_consistent(|listed| self.dump(request.clone(), |message, _| listed.extend(choose(message))))
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
    fn answers<T: NetlinkDeserializable>(&mut self, mut take: impl FnMut(T, u16)) -> io::Result<Dump> {
        let sequence = self.sequence;
        let mut outcome = Dump::Consistent;
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
                if message.header.flags & NLM_F_DUMP_INTR != 0 {
                    outcome = Dump::Interrupted;
                }
                match message.payload {
                    NetlinkPayload::Done(done) => end = Some(end_of_dump(&done)),
                    NetlinkPayload::Error(error) if error.code.is_none() => end = Some(Ok(())),
                    NetlinkPayload::Error(error) => end = Some(Err(error.to_io())),
                    NetlinkPayload::InnerMessage(inner) => take(inner, message.header.flags),
                    _ => {}
                }
            });
            if let Some(end) = end {
                return end.map(|()| outcome);
            }
        }
    }
}

fn first_consistent<U>(mut dump: impl FnMut(&mut Vec<U>) -> io::Result<Dump>) -> io::Result<Vec<U>> {
    for _ in 0..MAX_DUMPS {
        let mut listed = Vec::new();
        if dump(&mut listed)? == Dump::Consistent {
            return Ok(listed);
        }
    }
    Err(io::Error::other(format!(
        "changes interrupted the dump {MAX_DUMPS} times; try again when the network is quiet"
    )))
}

/// The last message of a dump carries a negative errno, or 0 (Linux, net/netlink/af_netlink.c, netlink_dump_done).
fn end_of_dump(done: &DoneMessage) -> io::Result<()> {
    match done.code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code.saturating_abs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::NLM_F_ACK;
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
        let all = RouteNetlinkMessage::GetLink(LinkMessage::default());
        assert!(!requests.list(all, Some).unwrap().is_empty(), "the loopback interface at least");
    }

    #[test]
    fn a_failed_dump_returns_the_kernels_error() {
        let mut done = DoneMessage::default();
        assert!(end_of_dump(&done).is_ok());
        done.code = -nix::libc::ENOMEM;
        assert_eq!(end_of_dump(&done).unwrap_err().raw_os_error(), Some(nix::libc::ENOMEM));
    }

    #[test]
    fn an_interrupted_dump_is_repeated_then_an_error() {
        let list = |interrupted: usize| {
            let mut made = 0;
            first_consistent(|listed| {
                made += 1;
                listed.push(made);
                Ok(if made > interrupted { Dump::Consistent } else { Dump::Interrupted })
            })
        };
        assert_eq!(list(0).unwrap(), [1]);
        assert_eq!(list(MAX_DUMPS - 1).unwrap(), [MAX_DUMPS]);
        assert!(list(MAX_DUMPS).unwrap_err().to_string().contains("interrupted"));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let mut requests = RequestSocket::open(NETLINK_ROUTE).unwrap();
        requests.buffer.truncate(16);
        let all = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let lost = requests.dump(all, |_, _| {}).unwrap_err();
        assert_eq!(lost.raw_os_error(), Some(nix::libc::EMSGSIZE));
    }
}
