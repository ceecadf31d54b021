//! Synchronous requests to the kernel: dumps and neighbour resolution.

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

/// The result of a dump.
#[derive(Default)]
struct Dump {
    events: Vec<Event>,
    /// False if changes interrupted every attempt: entries may be missing.
    consistent: bool,
}

/// A socket for requests, each answered before the next is sent.
pub struct Requests {
    kernel: shunt_netlink::RequestSocket,
}

impl Requests {
    /// Opens the socket.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { kernel: shunt_netlink::RequestSocket::open(NETLINK_ROUTE).map_err(NetlinkError::Open)? })
    }

    /// Dumps links, addresses, routes and neighbours; incomplete if changes interrupted every attempt at one of the dumps.
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

    /// Dumps links and addresses only; incomplete if changes interrupted every attempt at one of the dumps.
    pub fn dump_addresses(&mut self) -> Result<State, NetlinkError> {
        let mut state = State::default();
        add(&mut state, [links(), addresses()], &mut |request, what| self.dump(request, what))?;
        Ok(state)
    }

    /// Dumps routes only; `routes_stale` is set if changes interrupted every attempt.
    pub fn dump_routes(&mut self) -> Result<State, NetlinkError> {
        routes_of(&mut |request, what| self.dump(request, what))
    }

    /// Dumps with retries.
    fn dump(&mut self, request: RouteNetlinkMessage, what: &'static str) -> Result<Dump, NetlinkError> {
        let mut dump = Dump::default();
        for _ in 0..MAX_DUMPS {
            dump.events.clear();
            let take = |message, flags| dump.events.extend(decode::event(&message, flags));
            let outcome = self.kernel.dump(request.clone(), take);
            let outcome = outcome.map_err(|source| NetlinkError::Refused { what, source })?;
            dump.consistent = outcome == shunt_netlink::Dump::Consistent;
            if dump.consistent {
                return Ok(dump);
            }
        }
        warn!("changes interrupted the request to {what} {MAX_DUMPS} times; using an inconsistent answer");
        Ok(dump)
    }

    /// Makes the kernel resolve or confirm a neighbour.
    pub fn resolve(&mut self, key: NeighbourKey) -> Result<(), NetlinkError> {
        // NTF_USE acts as a packet to the neighbour would (neigh_event_send): no entry or FAILED becomes INCOMPLETE, STALE
        // becomes DELAY.
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

/// A dump request and what it does, for errors.
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
        let Dump { events, consistent } = dump(request, what)?;
        for event in events {
            state.apply(event);
        }
        state.is_incomplete |= !consistent;
    }
    Ok(())
}

fn routes_of(
    dump: &mut impl FnMut(RouteNetlinkMessage, &'static str) -> Result<Dump, NetlinkError>,
) -> Result<State, NetlinkError> {
    let (mut state, mut all_consistent) = (State::default(), true);
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        let Dump { events, consistent } = dump(RouteNetlinkMessage::GetRoute(message), "list routes")?;
        for event in events {
            state.apply(event);
        }
        all_consistent &= consistent;
    }
    // Overwrites the flag that routes with a shared key set: a dump lists those in order.
    state.routes_stale = !all_consistent;
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whichever_dump_was_interrupted_the_state_says_so() {
        let state = |interrupted: &str| {
            all_of(|_, what| Ok(Dump { events: Vec::new(), consistent: what != interrupted })).unwrap()
        };
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
