//! The ways to backends and clients: the routing daemon's ranges in terms of Shunt's own interfaces. Pure.

use std::collections::{BTreeMap, BTreeSet};

use shunt_shmlayout::address::{Address, InterfaceId};
use shunt_shmlayout::regions::{KeeperRegion, Side};

use super::own::OwnAddresses;
use shunt_routing::event::NeighbourKey;
use shunt_routing::ranges::{Range, ranges};
use shunt_routing::state::State;

/// Which of the system's interfaces are Shunt's, from the keeper's table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    ids: BTreeMap<u32, InterfaceId>,
    client_side: BTreeSet<u32>,
}

impl Interfaces {
    /// As the keeper has them now.
    pub fn read(keeper: &KeeperRegion) -> Self {
        let mut interfaces = Self::default();
        for (id, record) in keeper.interfaces() {
            if let Some(side) = record.side() {
                interfaces.add(record.ifindex, InterfaceId(id), side);
            }
        }
        interfaces
    }

    /// Adds one.
    pub fn add(&mut self, ifindex: u32, id: InterfaceId, side: Side) {
        self.ids.insert(ifindex, id);
        if side.has_clients() {
            self.client_side.insert(ifindex);
        }
    }

    /// Shunt's id of an interface; `None` if it isn't Shunt's.
    pub fn id(&self, ifindex: u32) -> Option<InterfaceId> {
        self.ids.get(&ifindex).copied()
    }

    /// The system's index of an interface.
    pub fn ifindex(&self, id: InterfaceId) -> Option<u32> {
        self.ids.iter().find(|(_, known)| **known == id).map(|(ifindex, _)| *ifindex)
    }

    /// Those by which clients are reached.
    pub fn client_side(&self) -> &BTreeSet<u32> {
        &self.client_side
    }

    /// A neighbour of the kernel's as a hop; `None` if it isn't behind an interface of Shunt's.
    pub fn hop(&self, key: &NeighbourKey) -> Option<Hop> {
        Some(Hop { interface: self.id(key.ifindex)?, address: key.address.into() })
    }

    /// The inverse of [`Interfaces::hop`].
    pub fn neighbour_key(&self, hop: &Hop) -> Option<NeighbourKey> {
        Some(NeighbourKey { ifindex: self.ifindex(hop.interface)?, address: hop.address.into() })
    }
}

/// Who is sent the frame: an address behind an interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Hop {
    /// Out of this interface.
    pub interface: InterfaceId,
    /// To this neighbour.
    pub address: Address,
}

/// Where the addresses of a range are reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Not by an interface of Shunt's.
    Nowhere,
    /// Each is a neighbour on this interface.
    OnLink(InterfaceId),
    /// By a gateway.
    Gateway(Hop),
}

/// All ways, as sorted ranges: each from its address to the next one's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways(Vec<(Address, Way)>);

impl Ways {
    /// From the kernel's routes, with `own` as any other addresses.
    pub fn new(state: &State, interfaces: &Interfaces, own: &OwnAddresses) -> Self {
        let mut ways: Vec<(Address, Way)> = Vec::new();
        let routes = state.routes.values().filter(|route| !own.hides(route));
        for range in ranges(routes, &state.links) {
            let way = way_of(&range, interfaces);
            // Ranges that differ only in interfaces that aren't Shunt's are one.
            if ways.last().is_none_or(|(_, last)| *last != way) {
                ways.push((Address(range.start.to_be_bytes()), way));
            }
        }
        Self(ways)
    }

    /// The ranges.
    pub fn ranges(&self) -> &[(Address, Way)] {
        &self.0
    }

    /// Who is sent a frame for `to`.
    pub fn hop(&self, to: Address) -> Option<Hop> {
        let after = self.0.partition_point(|(start, _)| *start <= to);
        match self.0.get(after.checked_sub(1)?)?.1 {
            Way::Nowhere => None,
            Way::OnLink(interface) => Some(Hop { interface, address: to }),
            Way::Gateway(hop) => Some(hop),
        }
    }

    /// Every gateway.
    pub fn gateways(&self) -> impl Iterator<Item = Hop> + '_ {
        self.0.iter().filter_map(|(_, way)| match way {
            Way::Gateway(hop) => Some(*hop),
            _ => None,
        })
    }
}

fn way_of(range: &Range, interfaces: &Interfaces) -> Way {
    let Some((hop, interface)) = range.next_hop.and_then(|hop| Some((hop, interfaces.id(hop.ifindex)?))) else {
        return Way::Nowhere;
    };
    match hop.gateway {
        Some(gateway) => Way::Gateway(Hop { interface, address: gateway.into() }),
        None => Way::OnLink(interface),
    }
}
