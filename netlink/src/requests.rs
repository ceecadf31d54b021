//! Requests to the kernel over netlink, of any family: each is answered before the next is made.

use std::io;

use netlink_packet_core::{
    DoneMessage, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::Socket;

use crate::socket::{self, DATAGRAM_BYTES};

/// A dump that a change interrupted is made again, this often in all.
pub const MAX_DUMPS: usize = 5;

/// Whether what a dump lists was there at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what an interrupted dump lists may lack something"]
pub enum Dump {
    /// It was.
    Whole,
    /// Something changed meanwhile: entries may be missing, or be there twice.
    Interrupted,
}

/// A socket for requests.
pub struct Requests {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Requests {
    /// For one of netlink's protocols.
    pub fn open(protocol: isize) -> io::Result<Self> {
        Ok(Self { socket: socket::open(protocol)?, sequence: 0, buffer: vec![0; DATAGRAM_BYTES] })
    }

    /// Sends one, and gives each message that is answered to `take`. `flags` must ask for an end: NLM_F_ACK. An error is the
    /// kernel's refusal, or the socket's.
    pub fn exchange<T>(&mut self, request: T, flags: u16, take: impl FnMut(T, u16)) -> io::Result<()>
    where
        T: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<T>>,
    {
        self.send(request, flags)?;
        // An answer that isn't a dump's can't be interrupted.
        self.answers(take).map(|_| ())
    }

    /// Asks once for a list, and gives each of its messages to `take`.
    pub fn dump<T>(&mut self, request: T, take: impl FnMut(T, u16)) -> io::Result<Dump>
    where
        T: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<T>>,
    {
        self.send(request, NLM_F_DUMP)?;
        self.answers(take)
    }

    /// What of a list `choose` gives, all of one moment. An error if changes went on interrupting the dump, too.
    pub fn list<T, U>(&mut self, request: T, choose: impl Fn(T) -> Option<U>) -> io::Result<Vec<U>>
    where
        T: Clone + NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<T>>,
    {
        first_whole(|listed| self.dump(request.clone(), |message, _| listed.extend(choose(message))))
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

    /// Reads the answers to the last request up to the end.
    fn answers<T: NetlinkDeserializable>(&mut self, mut take: impl FnMut(T, u16)) -> io::Result<Dump> {
        let sequence = self.sequence;
        let mut outcome = Dump::Whole;
        loop {
            let datagram = match socket::receive(&self.socket, &mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            let mut end = None;
            socket::for_each_message(datagram, |message: NetlinkMessage<T>| {
                // Left over from a request that failed half way.
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

fn first_whole<U>(mut dump: impl FnMut(&mut Vec<U>) -> io::Result<Dump>) -> io::Result<Vec<U>> {
    for _ in 0..MAX_DUMPS {
        let mut listed = Vec::new();
        if dump(&mut listed)? == Dump::Whole {
            return Ok(listed);
        }
    }
    Err(io::Error::other(format!(
        "changes interrupted the kernel's list {MAX_DUMPS} times; try again when they are over"
    )))
}

/// The last message of a dump has the error that ended it, negative, or 0 (Linux, net/netlink/af_netlink.c, netlink_dump_done).
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
        let mut requests = Requests::open(NETLINK_ROUTE).unwrap();
        let mut nobody = LinkMessage::default();
        nobody.header.index = i32::MAX as u32;
        let refused = requests.exchange(RouteNetlinkMessage::GetLink(nobody), NLM_F_ACK, |_, _| panic!("an answer"));
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(nix::libc::ENODEV));
        let all = RouteNetlinkMessage::GetLink(LinkMessage::default());
        assert!(!requests.list(all, Some).unwrap().is_empty(), "the loopback interface at least");
    }

    #[test]
    fn a_dump_that_failed_ends_with_the_kernels_error() {
        let mut done = DoneMessage::default();
        assert!(end_of_dump(&done).is_ok());
        done.code = -nix::libc::ENOMEM;
        assert_eq!(end_of_dump(&done).unwrap_err().raw_os_error(), Some(nix::libc::ENOMEM));
    }

    #[test]
    fn only_a_whole_dump_is_a_list() {
        let list = |interrupted: usize| {
            let mut made = 0;
            first_whole(|listed| {
                made += 1;
                listed.push(made);
                Ok(if made > interrupted { Dump::Whole } else { Dump::Interrupted })
            })
        };
        assert_eq!(list(0).unwrap(), [1]);
        assert_eq!(list(MAX_DUMPS - 1).unwrap(), [MAX_DUMPS]);
        assert!(list(MAX_DUMPS).unwrap_err().to_string().contains("interrupted"));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let mut requests = Requests::open(NETLINK_ROUTE).unwrap();
        requests.buffer.truncate(16);
        let all = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let lost = requests.dump(all, |_, _| {}).unwrap_err();
        assert_eq!(lost.raw_os_error(), Some(nix::libc::EMSGSIZE));
    }
}
