//! Requests to the kernel: dumps, and one-off commands, each answered before the next is made.

use std::net::IpAddr;

use log::{info, warn};
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::decode;
use super::error::NetlinkError;
use super::event::NeighbourKey;
use super::state::State;

/// A dump that a change interrupted is made again this often before what came is taken.
const MAX_DUMPS: usize = 5;

/// The socket for requests, each answered before the next is made.
pub struct Requests {
    kernel: shunt_netlink::Requests,
}

impl Requests {
    /// Opens it.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { kernel: shunt_netlink::Requests::open(NETLINK_ROUTE).map_err(NetlinkError::Open)? })
    }

    /// Everything that is followed.
    pub fn dump_all(&mut self) -> Result<State, NetlinkError> {
        let mut state = self.dump_routes()?;
        self.add_addresses(&mut state)?;
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

    /// A state of links and addresses alone.
    pub fn dump_addresses(&mut self) -> Result<State, NetlinkError> {
        let mut state = State::default();
        self.add_addresses(&mut state)?;
        Ok(state)
    }

    fn add_addresses(&mut self, state: &mut State) -> Result<(), NetlinkError> {
        self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), state, "list links")?;
        self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()), state, "list addresses")?;
        Ok(())
    }

    /// A state of routes alone; stale from the beginning if changes went on interrupting the dump.
    pub fn dump_routes(&mut self) -> Result<State, NetlinkError> {
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
            let take = |message, flags| listed.extend(decode::event(&message, flags));
            whole = self.exchange(request.clone(), NLM_F_DUMP, what, take)?;
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
    pub fn resolve(&mut self, key: NeighbourKey) -> Result<(), NetlinkError> {
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
        self.exchange(message, NLM_F_CREATE | NLM_F_ACK, "resolve a neighbour", |_, _| {}).map(drop)
    }

    fn exchange(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
        what: &'static str,
        take: impl FnMut(RouteNetlinkMessage, u16),
    ) -> Result<bool, NetlinkError> {
        self.kernel.exchange(request, flags, take).map_err(|source| NetlinkError::Refused { what, source })
    }
}
