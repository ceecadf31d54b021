//! Requests to the kernel: dumps, and one-off commands, each answered before the next is made.

use std::io;
use std::net::IpAddr;

use log::{info, warn};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::Socket;

use super::decode;
use super::error::NetlinkError;
use super::event::{Event, NeighbourKey};
use super::socket::{self, DATAGRAM_BYTES};
use super::state::State;

/// A dump that a change interrupted is made again this often before what came is taken.
const MAX_DUMPS: usize = 5;

/// The socket for requests, each answered before the next is made.
pub(super) struct Requests {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Requests {
    pub(super) fn open() -> Result<Self, NetlinkError> {
        Ok(Self { socket: socket::open()?, sequence: 0, buffer: vec![0; DATAGRAM_BYTES] })
    }

    /// Everything that is followed.
    pub(super) fn dump_all(&mut self) -> Result<State, NetlinkError> {
        let mut state = self.dump_routes()?;
        let links = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.dump(links, &mut state, "list links")?;
        let addresses = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.dump(addresses, &mut state, "list addresses")?;
        let neighbours = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        self.dump(neighbours, &mut state, "list neighbours")?;
        info!(
            "kernel state: {} links, {} addresses, {} routes, {} neighbours",
            state.links.len(),
            state.addresses.len(),
            state.routes.len(),
            state.neighbours.len()
        );
        Ok(state)
    }

    /// A state of routes alone; stale from the beginning if changes went on interrupting the dump.
    pub(super) fn dump_routes(&mut self) -> Result<State, NetlinkError> {
        let mut state = State::default();
        let mut whole = true;
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            whole &= self.dump(RouteNetlinkMessage::GetRoute(message), &mut state, "list routes")?;
        }
        // Set meanwhile by routes that share a key, whose order a dump does tell.
        state.routes_stale = !whole;
        Ok(state)
    }

    /// Applies everything that a dump lists. False if changes went on interrupting it, so that something may be
    /// missing.
    fn dump(
        &mut self,
        request: RouteNetlinkMessage,
        state: &mut State,
        what: &'static str,
    ) -> Result<bool, NetlinkError> {
        let mut listed = Vec::new();
        let mut whole = false;
        for _ in 0..MAX_DUMPS {
            listed.clear();
            self.send(request.clone(), NLM_F_DUMP)?;
            whole = self.answers(what, |message| listed.extend(plain_event(&message)))?;
            if whole {
                break;
            }
        }
        if !whole {
            warn!("changes interrupted the request to {what} {MAX_DUMPS} times; taking what came");
        }
        for event in listed {
            state.apply(event);
        }
        Ok(whole)
    }

    /// Makes the kernel resolve or confirm a neighbour.
    pub(super) fn resolve(&mut self, key: NeighbourKey) -> Result<(), NetlinkError> {
        // NTF_USE is "as if a packet went there" (neigh_event_send): INCOMPLETE from nothing or FAILED, DELAY from
        // STALE.
        let mut message = NeighbourMessage::default();
        message.header.family = match key.address {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        message.header.ifindex = key.ifindex;
        message.header.flags = NeighbourFlags::Use;
        message.attributes = vec![NeighbourAttribute::Destination(key.address.into())];
        let message = RouteNetlinkMessage::NewNeighbour(message);
        self.acknowledged(message, NLM_F_CREATE, "resolve a neighbour")
    }

    fn acknowledged(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
        what: &'static str,
    ) -> Result<(), NetlinkError> {
        self.send(request, flags | NLM_F_ACK)?;
        self.answers(what, drop).map(drop)
    }

    fn send(&mut self, request: RouteNetlinkMessage, flags: u16) -> Result<(), NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        Ok(())
    }

    /// Reads the answers to the last request up to the end. False if a dump was interrupted by a change, and isn't
    /// consistent.
    fn answers(
        &mut self,
        what: &'static str,
        mut take: impl FnMut(NetlinkMessage<RouteNetlinkMessage>),
    ) -> Result<bool, NetlinkError> {
        let sequence = self.sequence;
        let mut whole = true;
        let mut end = None;
        while end.is_none() {
            let datagram = match socket::receive(&self.socket, &mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            socket::for_each_message(datagram, |message| {
                // Left over from a request that failed half way.
                if message.header.sequence_number != sequence {
                    return;
                }
                whole &= message.header.flags & NLM_F_DUMP_INTR == 0;
                match &message.payload {
                    NetlinkPayload::Done(_) => end = Some(Ok(())),
                    NetlinkPayload::Error(error) if error.code.is_none() => end = Some(Ok(())),
                    NetlinkPayload::Error(error) => end = Some(Err(error.to_io())),
                    _ => take(message),
                }
            });
        }
        match end {
            Some(Err(source)) => Err(NetlinkError::Refused { what, source }),
            _ => Ok(whole),
        }
    }
}

/// The event that a message tells of, if it is one that is followed.
pub(super) fn plain_event(message: &NetlinkMessage<RouteNetlinkMessage>) -> Option<Event> {
    match &message.payload {
        NetlinkPayload::InnerMessage(inner) => decode::event(inner, message.header.flags),
        _ => None,
    }
}
