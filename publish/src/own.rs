//! The machine's own addresses as backends (patent Fig. 7, the first embodiment of the pseudo-interface): switchers send a
//! service's packets to the control machine's real address on the back-end network; they leave through a switcher's
//! interface and return through a kernel interface.
//!
//! The kernel resolves no own address and has a local route to each, so this module supplies both: the route from the main
//! table, and the Ethernet address of the link that has the address. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::fib::{Hop, Interfaces};
use shunt_routing::event::{Mac, Neighbour, NeighbourKey, NeighbourState, Route, RouteTable};
use shunt_routing::state::State;

/// The machine's own addresses on the kernel's links, with each link's Ethernet address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnAddresses(BTreeMap<IpAddr, Mac>);

impl OwnAddresses {
    /// Reads the kernel's current addresses.
    pub fn new(state: &State, interfaces: &Interfaces) -> Self {
        let of_kernel = |ifindex: &u32| interfaces.id(*ifindex).is_none();
        let addresses = state.addresses.iter().filter(|address| of_kernel(&address.ifindex));
        let macs = addresses.filter_map(|address| {
            let link = state.links.get(&address.ifindex).filter(|link| link.up && link.carrier)?;
            Some((address.address, link.mac.filter(|mac| *mac != [0; 6])?))
        });
        Self(macs.collect())
    }

    /// Returns true for an own address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains_key(&address)
    }

    /// Returns true if a route only marks an own address.
    pub fn hides(&self, route: &Route) -> bool {
        route.key.table == RouteTable::Local && self.contains(route.key.prefix)
    }

    /// The neighbour entries of those hops that are the machine itself.
    pub fn neighbours<'a>(
        &'a self,
        hops: impl Iterator<Item = &'a Hop> + 'a,
        interfaces: &'a Interfaces,
    ) -> impl Iterator<Item = Neighbour> + 'a {
        hops.filter_map(|hop: &Hop| {
            let key: NeighbourKey = interfaces.neighbour_key(hop)?;
            let mac = Some(*self.0.get(&key.address)?);
            Some(Neighbour { key, mac, state: NeighbourState::Permanent })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fib::Fib;
    use super::super::testing::{IFINDEX, INTERFACE, interfaces, kernel};
    use super::*;
    use shunt_routing::event::{LinkAddress, RouteKey, RouteTarget};

    /// An address of the machine's, with the kernel's local route to it.
    fn own(state: &mut State, ifindex: u32, text: &str) -> IpAddr {
        let address: IpAddr = text.parse().unwrap();
        state.addresses.insert(LinkAddress { ifindex, address, prefix_len: 32 });
        let key = RouteKey { table: RouteTable::Local, prefix: address, prefix_len: 32, metric: 0 };
        state.routes.insert(key, Route { key, target: RouteTarget::Local, alternatives: false });
        address
    }

    #[test]
    fn an_address_of_the_kernels_link_is_a_neighbour_behind_shunts() {
        let mut state = kernel();
        let (inner, outer) = (own(&mut state, IFINDEX + 1, "198.18.1.9"), own(&mut state, IFINDEX, "198.18.1.1"));
        let addresses = OwnAddresses::new(&state, &interfaces());
        assert!(addresses.contains(inner) && !addresses.contains(outer), "one of Shunt's links leads nowhere else");
        let fib = Fib::new(&state, &interfaces(), &addresses);
        let hop = Hop { interface: INTERFACE, address: inner.into() };
        assert_eq!((fib.hop(inner.into()), fib.hop(outer.into())), (Some(hop), None));
        let found: Vec<_> = addresses.neighbours([hop].iter(), &interfaces()).collect();
        assert_eq!(found[0].usable_mac(), state.links[&(IFINDEX + 1)].mac);

        state.links.get_mut(&(IFINDEX + 1)).unwrap().carrier = false;
        assert!(!OwnAddresses::new(&state, &interfaces()).contains(inner));
    }
}
