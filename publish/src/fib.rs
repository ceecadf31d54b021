//! The forwarding table (FIB): the routing daemon's address intervals in terms of Shunt's own interfaces. Pure.

use std::collections::{BTreeMap, BTreeSet};

use shunt_shmlayout::address::{Address, InterfaceId};
use shunt_shmlayout::regions::{InterfaceSide, KeeperRegion};

use super::own::OwnAddresses;
use shunt_routing::event::NeighbourKey;
use shunt_routing::intervals::{Interval, intervals};
use shunt_routing::state::State;

/// Maps the system's interfaces to Shunt's, from the keeper's table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    ids: BTreeMap<u32, InterfaceId>,
    client_side: BTreeSet<u32>,
}

impl Interfaces {
    /// Reads the keeper's current table.
    pub fn read(keeper: &KeeperRegion) -> Self {
        let mut interfaces = Self::default();
        for (id, record) in keeper.interfaces() {
            if let Some(side) = record.side() {
                interfaces.add(record.ifindex, InterfaceId(id), side);
            }
        }
        interfaces
    }

    /// Adds an interface.
    pub fn add(&mut self, ifindex: u32, id: InterfaceId, side: InterfaceSide) {
        self.ids.insert(ifindex, id);
        if side.has_clients() {
            self.client_side.insert(ifindex);
        }
    }

    /// Shunt's id of an interface; `None` if Shunt does not use it.
    pub fn id(&self, ifindex: u32) -> Option<InterfaceId> {
        self.ids.get(&ifindex).copied()
    }

    /// The system's index of an interface.
    pub fn ifindex(&self, id: InterfaceId) -> Option<u32> {
        self.ids.iter().find(|(_, known)| **known == id).map(|(ifindex, _)| *ifindex)
    }

    /// The interfaces towards clients.
    pub fn client_side(&self) -> &BTreeSet<u32> {
        &self.client_side
    }

    /// Converts a kernel neighbour to a hop; `None` if it is not behind one of Shunt's interfaces.
    pub fn hop(&self, key: &NeighbourKey) -> Option<Hop> {
        Some(Hop { interface: self.id(key.ifindex)?, address: key.address.into() })
    }

    /// The inverse of [`Interfaces::hop`].
    pub fn neighbour_key(&self, hop: &Hop) -> Option<NeighbourKey> {
        Some(NeighbourKey { ifindex: self.ifindex(hop.interface)?, address: hop.address.into() })
    }
}

/// The receiver of a frame: an address behind an interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Hop {
    /// The outgoing interface.
    pub interface: InterfaceId,
    /// The neighbour's address.
    pub address: Address,
}

/// The next hop of an interval of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FibEntry {
    /// Not reachable through Shunt's interfaces.
    Nowhere,
    /// Each address is a neighbour on this interface.
    OnLink(InterfaceId),
    /// Through a gateway.
    Gateway(Hop),
}

/// The forwarding table as sorted intervals, each up to the next one's first address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fib(Vec<(Address, FibEntry)>);

impl Fib {
    /// Builds the table from the kernel's routes; `own` addresses are treated as any others.
    pub fn new(state: &State, interfaces: &Interfaces, own: &OwnAddresses) -> Self {
        let mut fib: Vec<(Address, FibEntry)> = Vec::new();
        let routes = state.routes.values().filter(|route| !own.hides(route));
        for interval in intervals(routes, &state.links) {
            let entry = entry_of(&interval, interfaces);
            // Merges intervals that differ only in interfaces that Shunt does not use.
            if fib.last().is_none_or(|(_, last)| *last != entry) {
                fib.push((Address(interval.start.to_be_bytes()), entry));
            }
        }
        Self(fib)
    }

    /// The intervals by first address.
    pub fn intervals(&self) -> &[(Address, FibEntry)] {
        &self.0
    }

    /// The next hop for `to`.
    pub fn hop(&self, to: Address) -> Option<Hop> {
        let after = self.0.partition_point(|(start, _)| *start <= to);
        match self.0.get(after.checked_sub(1)?)?.1 {
            FibEntry::Nowhere => None,
            FibEntry::OnLink(interface) => Some(Hop { interface, address: to }),
            FibEntry::Gateway(hop) => Some(hop),
        }
    }

    /// All gateways.
    pub fn gateways(&self) -> impl Iterator<Item = Hop> + '_ {
        self.0.iter().filter_map(|(_, entry)| match entry {
            FibEntry::Gateway(hop) => Some(*hop),
            _ => None,
        })
    }
}

fn entry_of(interval: &Interval, interfaces: &Interfaces) -> FibEntry {
    let Some((hop, interface)) = interval.next_hop.and_then(|hop| Some((hop, interfaces.id(hop.ifindex)?))) else {
        return FibEntry::Nowhere;
    };
    match hop.gateway {
        Some(gateway) => FibEntry::Gateway(Hop { interface, address: gateway.into() }),
        None => FibEntry::OnLink(interface),
    }
}
