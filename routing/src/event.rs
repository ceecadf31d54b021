//! What the kernel tells, as plain values in the types of `std::net`; IPv4 and IPv6 alike.

use std::net::IpAddr;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number; a link that is removed and made again gets another one.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Absent on links without Ethernet addresses.
    pub mac: Option<Mac>,
    /// The largest IP packet, bytes.
    pub mtu: u32,
    /// Set up by the administrator (IFF_UP).
    pub up: bool,
    /// The link below is there (IFF_LOWER_UP).
    pub carrier: bool,
}

/// An address of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// The link that carries it.
    pub ifindex: u32,
    /// The address itself.
    pub address: IpAddr,
    /// Length of the prefix it shares with its neighbours, bits.
    pub prefix_len: u8,
}

/// The routing tables that are followed; the kernel asks `Local` first, whatever the prefix lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// This machine's own and broadcast addresses.
    Local,
    /// Everything else.
    Main,
}

/// What makes a route the same route: a change of the rest replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteKey {
    /// Where it stands.
    pub table: Table,
    /// First address of the destination.
    pub prefix: IpAddr,
    /// Length of the prefix, bits.
    pub prefix_len: u8,
    /// Lower is preferred.
    pub metric: u32,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Out of a link: to the gateway, or to the destination itself if there is none.
    Via {
        /// The link.
        ifindex: u32,
        /// The next router; of either family whatever the destination's is (RFC 5549).
        gateway: Option<IpAddr>,
    },
    /// To this machine, or to a broadcast, multicast or anycast address: not for a switcher to forward.
    Local,
    /// Nowhere: unreachable, blackhole, prohibit, or a kind of route that Shunt can't follow (an encapsulation).
    Nowhere,
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// What it is for.
    pub key: RouteKey,
    /// The first living hop, if there are several.
    pub target: Target,
    /// There are other hops, or other routes with the same key, so that one removal needn't be the end of the key.
    pub alternatives: bool,
}

/// What makes a neighbour the same neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NeighbourKey {
    /// The link it is on.
    pub ifindex: u32,
    /// Its address there.
    pub address: IpAddr,
}

/// How the kernel stands with a neighbour (RFC 4861 section 7.3.2; the same machine serves ARP).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// Being asked for the first time.
    Incomplete,
    /// Known, and recently confirmed.
    Reachable,
    /// Known, not confirmed lately; nobody has asked again.
    Stale,
    /// Known, and about to be asked or being asked again.
    Verifying,
    /// Doesn't answer.
    Failed,
    /// Needs no asking: set by hand, or on a link without address resolution.
    Permanent,
}

/// An entry of the kernel's ARP or neighbour-discovery cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Who.
    pub key: NeighbourKey,
    /// Its Ethernet address, if one is known.
    pub mac: Option<Mac>,
    /// How far it is to be trusted.
    pub state: NeighbourState,
}

impl Neighbour {
    /// The Ethernet address that frames to it may carry now.
    pub fn usable_mac(&self) -> Option<Mac> {
        match self.state {
            NeighbourState::Incomplete | NeighbourState::Failed => None,
            _ => self.mac,
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link appeared or changed.
    Link(Link),
    /// A link was removed.
    LinkGone(u32),
    /// An address appeared or changed.
    Address(Address),
    /// An address was removed.
    AddressGone(Address),
    /// A route was added beside whatever is there.
    Route(Route),
    /// A route took the place of the one with the same key.
    RouteReplaced(Route),
    /// A route was removed.
    RouteGone(Route),
    /// A neighbour appeared or changed.
    Neighbour(Neighbour),
    /// A neighbour was forgotten.
    NeighbourGone(NeighbourKey),
}
