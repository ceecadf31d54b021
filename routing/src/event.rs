//! Kernel network events as plain values in the types of `std::net`, for IPv4 and IPv6.

use std::net::IpAddr;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number; a link that is removed and created again gets a new one.
    pub ifindex: u32,
    /// Interface name.
    pub name: String,
    /// Absent on links without Ethernet addresses.
    pub mac: Option<Mac>,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Set up by the administrator (IFF_UP).
    pub up: bool,
    /// The physical layer is up (IFF_LOWER_UP).
    pub carrier: bool,
}

/// An address assigned to a link of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkAddress {
    /// The link that carries it.
    pub ifindex: u32,
    /// The address itself.
    pub address: IpAddr,
    /// Length of its on-link prefix, bits.
    pub prefix_len: u8,
}

/// The routing tables that Shunt tracks. The kernel looks up `Local` first, regardless of prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RouteTable {
    /// Local and broadcast addresses.
    Local,
    /// All other routes.
    Main,
}

/// Identity of a route: a route with the same key replaces the earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteKey {
    /// The routing table.
    pub table: RouteTable,
    /// First address of the destination.
    pub prefix: IpAddr,
    /// Length of the prefix, bits.
    pub prefix_len: u8,
    /// Lower is preferred.
    pub metric: u32,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteTarget {
    /// Out of a link, to the gateway or, without one, to the destination itself.
    Via {
        /// The outgoing link.
        ifindex: u32,
        /// The next router, of either family independent of the destination's (RFC 5549).
        gateway: Option<IpAddr>,
    },
    /// To this machine, or to a broadcast, multicast or anycast address. Switchers do not forward it.
    Local,
    /// Unreachable, blackhole, prohibit, or an unsupported kind of route (encapsulation).
    Nowhere,
}

/// A route in a routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Table, prefix and metric.
    pub key: RouteKey,
    /// Where it leads; of several next hops, the first that is alive.
    pub target: RouteTarget,
    /// There are other next hops, or other routes with the same key: one removal may leave the key in place.
    pub alternatives: bool,
}

/// Identity of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NeighbourKey {
    /// Its link.
    pub ifindex: u32,
    /// Its IP address.
    pub address: IpAddr,
}

/// Reachability of a neighbour (RFC 4861 section 7.3.2; the kernel uses the same state machine for ARP).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// First resolution in progress.
    Incomplete,
    /// Resolved and recently confirmed.
    Reachable,
    /// Resolved, but not confirmed recently; no probe is scheduled.
    Stale,
    /// Resolved; a probe is scheduled or in progress.
    Verifying,
    /// Resolution failed.
    Failed,
    /// Needs no resolution: configured statically, or on a link without address resolution.
    Permanent,
}

/// An entry of the kernel's ARP or neighbour-discovery cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Link and IP address.
    pub key: NeighbourKey,
    /// Its Ethernet address, if known.
    pub mac: Option<Mac>,
    /// Its reachability.
    pub state: NeighbourState,
}

impl Neighbour {
    /// The Ethernet address, if frames may be sent to it now.
    pub fn usable_mac(&self) -> Option<Mac> {
        match self.state {
            NeighbourState::Incomplete | NeighbourState::Failed => None,
            _ => self.mac,
        }
    }
}

/// A change of the kernel's network state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link appeared or changed.
    Link(Link),
    /// A link was removed; its ifindex.
    LinkGone(u32),
    /// An address appeared or changed.
    Address(LinkAddress),
    /// An address was removed.
    AddressGone(LinkAddress),
    /// A route was added; one with the same key may exist.
    Route(Route),
    /// A route replaced the one with the same key.
    RouteReplaced(Route),
    /// A route was removed.
    RouteGone(Route),
    /// A neighbour appeared or changed.
    Neighbour(Neighbour),
    /// A neighbour was removed.
    NeighbourGone(NeighbourKey),
}
