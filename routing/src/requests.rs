//! Requests to the kernel: dumps, and one-off commands, each answered before the next is made.

use std::net::IpAddr;

use log::{info, warn};
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use shunt_netlink::MAX_DUMPS;

use super::decode;
use super::error::NetlinkError;
use super::event::{Event, NeighbourKey};
use super::state::State;

/// What a dump lists.
#[derive(Default)]
struct Dump {
    listed: Vec<Event>,
    /// False if changes went on interrupting it, so that something may be missing.
    whole: bool,
}

/// The socket for requests, each answered before the next is made.
pub struct Requests {
    kernel: shunt_netlink::Requests,
}

impl Requests {
    /// Opens it.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { kernel: shunt_netlink::Requests::open(NETLINK_ROUTE).map_err(NetlinkError::Open)? })
    }

    /// Everything that is followed; incomplete if changes went on interrupting one of the dumps.
    pub fn dump_all(&mut self) -> Result<State, NetlinkError> {
        let state = all_of(|request, what| self.dump(request, what))?;
        info!(
            "kernel state: {} links, {} addresses, {} routes, {} neighbours",
            state.links.len(),
            state.addresses.len(),
            state.routes.len(),
            state.neighbours.len()
        );
        Ok(state)
    }

    /// A state of links and addresses alone; incomplete if changes went on interrupting one of the dumps.
    pub fn dump_addresses(&mut self) -> Result<State, NetlinkError> {
        let mut state = State::default();
        add(&mut state, [links(), addresses()], &mut |request, what| self.dump(request, what))?;
        Ok(state)
    }

    /// A state of routes alone; stale from the beginning if changes went on interrupting the dump.
    pub fn dump_routes(&mut self) -> Result<State, NetlinkError> {
        routes_of(&mut |request, what| self.dump(request, what))
    }

    /// Everything that a dump lists.
    fn dump(&mut self, request: RouteNetlinkMessage, what: &'static str) -> Result<Dump, NetlinkError> {
        let mut dump = Dump::default();
        for _ in 0..MAX_DUMPS {
            dump.listed.clear();
            let take = |message, flags| dump.listed.extend(decode::event(&message, flags));
            let outcome = self.kernel.dump(request.clone(), take);
            dump.whole =
                outcome.map_err(|source| NetlinkError::Refused { what, source })? == shunt_netlink::Dump::Whole;
            if dump.whole {
                return Ok(dump);
            }
        }
        warn!("changes interrupted the request to {what} {MAX_DUMPS} times; taking what came");
        Ok(dump)
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
        let answer = self.kernel.exchange(message, NLM_F_CREATE | NLM_F_ACK, |_, _| {});
        answer.map_err(|source| NetlinkError::Refused { what: "resolve a neighbour", source })
    }
}

type Listing = (RouteNetlinkMessage, &'static str);

fn links() -> Listing {
    (RouteNetlinkMessage::GetLink(LinkMessage::default()), "list links")
}

fn addresses() -> Listing {
    (RouteNetlinkMessage::GetAddress(AddressMessage::default()), "list addresses")
}

fn all_of(
    mut dump: impl FnMut(RouteNetlinkMessage, &'static str) -> Result<Dump, NetlinkError>,
) -> Result<State, NetlinkError> {
    let mut state = routes_of(&mut dump)?;
    let neighbours = (RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()), "list neighbours");
    add(&mut state, [links(), addresses(), neighbours], &mut dump)?;
    Ok(state)
}

fn add<const N: usize>(
    state: &mut State,
    listings: [Listing; N],
    dump: &mut impl FnMut(RouteNetlinkMessage, &'static str) -> Result<Dump, NetlinkError>,
) -> Result<(), NetlinkError> {
    for (request, what) in listings {
        let Dump { listed, whole } = dump(request, what)?;
        for event in listed {
            state.apply(event);
        }
        state.is_incomplete |= !whole;
    }
    Ok(())
}

fn routes_of(
    dump: &mut impl FnMut(RouteNetlinkMessage, &'static str) -> Result<Dump, NetlinkError>,
) -> Result<State, NetlinkError> {
    let (mut state, mut all_whole) = (State::default(), true);
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        let Dump { listed, whole } = dump(RouteNetlinkMessage::GetRoute(message), "list routes")?;
        for event in listed {
            state.apply(event);
        }
        all_whole &= whole;
    }
    // Set meanwhile by routes that share a key, whose order a dump does tell.
    state.routes_stale = !all_whole;
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whichever_dump_was_interrupted_the_state_says_so() {
        let state =
            |interrupted: &str| all_of(|_, what| Ok(Dump { listed: Vec::new(), whole: what != interrupted })).unwrap();
        assert!(!state("").is_incomplete && !state("").routes_stale);
        for what in ["list links", "list addresses", "list neighbours"] {
            assert!(state(what).is_incomplete && !state(what).routes_stale, "{what}");
        }
        assert!(
            state("list routes").routes_stale && !state("list routes").is_incomplete,
            "routes are dumped by themselves"
        );
    }
}
