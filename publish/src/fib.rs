//! The forwarding table (FIB): the routing daemon's intervals of addresses, in terms of Shunt's own interfaces. Pure.

use std::collections::{BTreeMap, BTreeSet};

use shunt_shmlayout::address::{Address, InterfaceId};
use shunt_shmlayout::regions::{InterfaceSide, KeeperRegion};

use super::own::OwnAddresses;
use shunt_routing::event::NeighbourKey;
use shunt_routing::intervals::{Interval, intervals};
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
    pub fn add(&mut self, ifindex: u32, id: InterfaceId, side: InterfaceSide) {
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

/// The next hop of an interval of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FibEntry {
    /// Not by an interface of Shunt's.
    Nowhere,
    /// Each is a neighbour on this interface.
    OnLink(InterfaceId),
    /// By a gateway.
    Gateway(Hop),
}

/// The forwarding table as sorted intervals, each from its address to the next one's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fib(Vec<(Address, FibEntry)>);

impl Fib {
    /// From the kernel's routes, with `own` as any other addresses.
    pub fn new(state: &State, interfaces: &Interfaces, own: &OwnAddresses) -> Self {
        let mut fib: Vec<(Address, FibEntry)> = Vec::new();
        let routes = state.routes.values().filter(|route| !own.hides(route));
        for interval in intervals(routes, &state.links) {
            let entry = entry_of(&interval, interfaces);
            // Intervals that differ only in interfaces that aren't Shunt's are one.
            if fib.last().is_none_or(|(_, last)| *last != entry) {
                fib.push((Address(interval.start.to_be_bytes()), entry));
            }
        }
        Self(fib)
    }

    /// The intervals by their first addresses.
    pub fn intervals(&self) -> &[(Address, FibEntry)] {
        &self.0
    }

    /// Who is sent a frame for `to`.
    pub fn hop(&self, to: Address) -> Option<Hop> {
        let after = self.0.partition_point(|(start, _)| *start <= to);
        match self.0.get(after.checked_sub(1)?)?.1 {
            FibEntry::Nowhere => None,
            FibEntry::OnLink(interface) => Some(Hop { interface, address: to }),
            FibEntry::Gateway(hop) => Some(hop),
        }
    }

    /// Every gateway.
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
