//! Decodes netlink messages into plain events. Pure; `None` for messages that Shunt does not track.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::NLM_F_REPLACE;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState as KernelState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::event::{
    Event, Link, LinkAddress, Mac, Neighbour, NeighbourKey, NeighbourState, Route, RouteKey, RouteTable, RouteTarget,
};

const RT_TABLE_MAIN: u32 = 254;
const RT_TABLE_LOCAL: u32 = 255;

/// Decodes a message; `flags` are its header's.
pub fn event(message: &RouteNetlinkMessage, flags: u16) -> Option<Event> {
    use RouteNetlinkMessage as Message;
    match message {
        Message::NewLink(m) => link(m).map(Event::Link),
        // With AF_BRIDGE the same message means that the link left a bridge.
        Message::DelLink(m) => {
            (m.header.interface_family == AddressFamily::Unspec).then_some(Event::LinkGone(m.header.index))
        }
        Message::NewAddress(m) => address(m).map(Event::Address),
        Message::DelAddress(m) => address(m).map(Event::AddressGone),
        Message::NewRoute(m) if flags & NLM_F_REPLACE != 0 => route(m).map(Event::RouteReplaced),
        Message::NewRoute(m) => route(m).map(Event::Route),
        Message::DelRoute(m) => route(m).map(Event::RouteGone),
        Message::NewNeighbour(m) => neighbour(m),
        Message::DelNeighbour(m) => neighbour_key(m).map(Event::NeighbourGone),
        _ => None,
    }
}

fn link(message: &LinkMessage) -> Option<Link> {
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let mut link = Link {
        ifindex: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => link.mac = mac(bytes),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            _ => {}
        }
    }
    // Some drivers send single attributes (wireless events) without describing the link.
    (!link.name.is_empty()).then_some(link)
}

fn address(message: &AddressMessage) -> Option<LinkAddress> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link `Address` is the peer's and `Local` is ours.
            AddressAttribute::Local(address) => found = Some(*address),
            AddressAttribute::Address(address) => found = found.or(Some(*address)),
            _ => {}
        }
    }
    Some(LinkAddress { ifindex: message.header.index, address: found?, prefix_len: message.header.prefix_len })
}

fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let unspecified: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    // Ignore routes by source or type of service, and cached per-destination entries.
    if header.source_prefix_length != 0 || header.tos != 0 || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let mut table = u32::from(header.table);
    let mut key = RouteKey {
        table: RouteTable::Main,
        prefix: unspecified,
        prefix_len: header.destination_prefix_length,
        metric: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(to) => key.prefix = plain(to)?,
            RouteAttribute::Priority(metric) => key.metric = *metric,
            _ => {}
        }
    }
    key.table = match table {
        RT_TABLE_MAIN => RouteTable::Main,
        RT_TABLE_LOCAL => RouteTable::Local,
        _ => return None,
    };
    let (target, alternatives) = target(header.kind, &message.attributes);
    Some(Route { key, target, alternatives })
}

/// A route's target, and whether it has several next hops.
fn target(kind: RouteType, attributes: &[RouteAttribute]) -> (RouteTarget, bool) {
    match kind {
        RouteType::Unicast => {}
        RouteType::Local | RouteType::Broadcast | RouteType::Multicast | RouteType::Anycast => {
            return (RouteTarget::Local, false);
        }
        _ => return (RouteTarget::Nowhere, false),
    }
    let hops = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::MultiPath(hops) => Some(hops),
        _ => None,
    });
    match hops.and_then(|hops| first_alive(hops)) {
        Some(hop) => (via(Some(hop.interface_index), &hop.attributes), hops.is_some_and(|hops| hops.len() > 1)),
        None => (via(None, attributes), false),
    }
}

/// The first hop that is not dead; if all are dead, the first.
fn first_alive(hops: &[RouteNextHop]) -> Option<&RouteNextHop> {
    let alive = |hop: &&RouteNextHop| !hop.flags.contains(RouteNextHopFlags::Dead);
    hops.iter().find(alive).or(hops.first())
}

fn via(mut ifindex: Option<u32>, attributes: &[RouteAttribute]) -> RouteTarget {
    let mut gateway = None;
    for attribute in attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(address) => gateway = plain(address),
            RouteAttribute::Via(RouteVia::Inet(address)) => gateway = Some((*address).into()),
            RouteAttribute::Via(RouteVia::Inet6(address)) => gateway = Some((*address).into()),
            RouteAttribute::EncapType(_) => return RouteTarget::Nowhere,
            _ => {}
        }
    }
    match ifindex {
        Some(ifindex) => RouteTarget::Via { ifindex, gateway },
        None => RouteTarget::Nowhere,
    }
}

fn neighbour(message: &NeighbourMessage) -> Option<Event> {
    let key = neighbour_key(message)?;
    let state = match message.header.state {
        // A new entry without a state carries no information yet.
        KernelState::None => return Some(Event::NeighbourGone(key)),
        KernelState::Incomplete => NeighbourState::Incomplete,
        KernelState::Reachable => NeighbourState::Reachable,
        KernelState::Stale => NeighbourState::Stale,
        KernelState::Delay | KernelState::Probe => NeighbourState::Verifying,
        KernelState::Permanent | KernelState::Noarp => NeighbourState::Permanent,
        _ => NeighbourState::Failed,
    };
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => mac(bytes),
        _ => None,
    });
    Some(Event::Neighbour(Neighbour { key, mac, state }))
}

/// `None` for entries other than IP neighbours: bridge forwarding entries, proxies, multicast mappings.
fn neighbour_key(message: &NeighbourMessage) -> Option<NeighbourKey> {
    if message.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let address: IpAddr = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some((*v4).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    })?;
    let ifindex = message.header.ifindex;
    (!address.is_multicast()).then_some(NeighbourKey { ifindex, address })
}

fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

fn mac(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4_route(kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteNetlinkMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = 24;
        message.header.table = RT_TABLE_MAIN as u8;
        message.header.kind = kind;
        message.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet([198, 18, 1, 0].into()))];
        message.attributes.extend(attributes);
        RouteNetlinkMessage::NewRoute(message)
    }

    fn hop(ifindex: u32, flags: RouteNextHopFlags) -> RouteNextHop {
        let mut hop = RouteNextHop::default();
        hop.interface_index = ifindex;
        hop.flags = flags;
        hop.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet([198, 18, 0, ifindex as u8].into()))];
        hop
    }

    fn decoded(message: &RouteNetlinkMessage) -> Route {
        match event(message, 0) {
            Some(Event::Route(route)) => route,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_multipath_route_takes_its_first_living_hop() {
        let hops = vec![hop(1, RouteNextHopFlags::Dead), hop(2, RouteNextHopFlags::empty())];
        let route = decoded(&v4_route(RouteType::Unicast, vec![RouteAttribute::MultiPath(hops)]));
        let gateway = Some([198, 18, 0, 2].into());
        assert_eq!(route.target, RouteTarget::Via { ifindex: 2, gateway });
        assert!(route.alternatives);
    }

    #[test]
    fn kinds_that_lead_nowhere_or_home() {
        for kind in [RouteType::BlackHole, RouteType::Unreachable, RouteType::Prohibit] {
            assert_eq!(decoded(&v4_route(kind, vec![])).target, RouteTarget::Nowhere);
        }
        for kind in [RouteType::Local, RouteType::Broadcast] {
            let route = v4_route(kind, vec![RouteAttribute::Oif(1)]);
            assert_eq!(decoded(&route).target, RouteTarget::Local);
        }
    }

    #[test]
    fn other_tables_are_not_followed() {
        let other = v4_route(RouteType::Unicast, vec![RouteAttribute::Table(1000)]);
        assert_eq!(event(&other, 0), None);
    }

    #[test]
    fn replacement_is_told_by_the_header() {
        let message = v4_route(RouteType::Unicast, vec![RouteAttribute::Oif(1)]);
        assert!(matches!(event(&message, NLM_F_REPLACE), Some(Event::RouteReplaced(_))));
    }

    #[test]
    fn a_gateway_of_the_other_family_is_kept() {
        let v6: Ipv6Addr = "fe80::1".parse().unwrap();
        let attributes = vec![RouteAttribute::Oif(3), RouteAttribute::Via(RouteVia::Inet6(v6))];
        let route = decoded(&v4_route(RouteType::Unicast, attributes));
        assert_eq!(route.target, RouteTarget::Via { ifindex: 3, gateway: Some(v6.into()) });
    }

    #[test]
    fn bridge_messages_are_not_taken_for_links() {
        let mut message = LinkMessage::default();
        message.header.interface_family = AddressFamily::Bridge;
        message.header.index = 7;
        assert_eq!(event(&RouteNetlinkMessage::DelLink(message.clone()), 0), None);
        message.attributes.push(LinkAttribute::IfName("eth7".into()));
        assert_eq!(event(&RouteNetlinkMessage::NewLink(message), 0), None);
    }
}
