//! The paths of checks that take a client's path: next hop and Ethernet address as switchers have them, and a source
//! address that replies return to.

use std::net::{IpAddr, Ipv4Addr};

use shunt_shmlayout::address::Mac;

use super::Control;
use super::outside::Turn;
use crate::health::as_client::{ClientWay, NoPath, Path, Sender};
use crate::health::{BackendKey, Check};
use shunt_publish::fib::{Fib, Hop, Interfaces};
use shunt_publish::own::OwnAddresses;
use shunt_routing::state::State;

/// The checks that take a client's path.
#[derive(Default)]
pub(super) struct Checked {
    client_ways: Vec<(BackendKey, ClientWay)>,
}

impl Checked {
    /// Sets the checks to run.
    pub fn configure(&mut self, checks: &[Check]) {
        self.client_ways = checks.iter().filter_map(|check| Some((check.key.clone(), check.way?))).collect();
    }
}

/// The sources of paths.
struct Network<'a> {
    fib: &'a Fib,
    own: &'a OwnAddresses,
    interfaces: &'a Interfaces,
    state: &'a State,
}

impl Control {
    /// Recomputes the paths; runs after the neighbours are updated, which every change of routes or checks triggers.
    pub(super) fn find_paths(&mut self, turn: &mut Turn<'_>) {
        if self.interfaces == Interfaces::default() {
            return; // before the first turn
        }
        let neighbours = self.memory.control.neighbours;
        let mac = |hop: &Hop| neighbours.mac_of(hop.interface, &hop.address);
        let network = Network { fib: &self.fib, own: &self.own, interfaces: &self.interfaces, state: turn.kernel };
        let ways = self.checked.client_ways.iter();
        turn.outputs.paths = Some(ways.map(|(key, way)| (key.clone(), network.path(*way, mac))).collect());
    }
}

impl Network<'_> {
    fn path(&self, way: ClientWay, mac: impl Fn(&Hop) -> Option<Mac>) -> Result<Path, NoPath> {
        if self.own.contains(way.backend) {
            return Err(NoPath::Own(way.backend));
        }
        let no_route = NoPath::NoRoute(way.backend);
        let hop = self.fib.hop(way.backend.into()).ok_or(no_route.clone())?;
        let ifindex = self.interfaces.ifindex(hop.interface).ok_or(no_route)?;
        let source = match way.sender {
            Sender::Neighbour => self.source_on(ifindex, hop.address.into()),
            Sender::ClientSide(service) => self.source_apart(ifindex, service),
        }?;
        let mac = mac(&hop).ok_or(NoPath::Unresolved(hop.address.into()))?;
        Ok(Path { ifindex, mac: mac.0, source })
    }

    /// The machine's address on a link: of several, the one in the neighbour's subnet.
    fn source_on(&self, ifindex: u32, neighbour: IpAddr) -> Result<Ipv4Addr, NoPath> {
        let on_link = self.addresses().filter(|own| own.ifindex == ifindex);
        let best = on_link.max_by_key(|own| own.is_neighbour(neighbour));
        let name = || self.state.links.get(&ifindex).map_or_else(|| ifindex.to_string(), |link| link.name.clone());
        best.map(|own| own.address).ok_or_else(|| NoPath::NoSource(format!("interface {}", name())))
    }

    /// The machine's address on the client side: of several, one that is not on the backend's link, preferably in the
    /// service's subnet.
    fn source_apart(&self, backend: u32, service: IpAddr) -> Result<Ipv4Addr, NoPath> {
        let side = self.addresses().filter(|own| self.interfaces.client_side().contains(&own.ifindex));
        let best = side.max_by_key(|own| (own.ifindex != backend, own.is_neighbour(service)));
        best.map(|own| own.address).ok_or_else(|| NoPath::NoSource("the clients' side".to_owned()))
    }

    fn addresses(&self) -> impl Iterator<Item = Own> {
        self.state.addresses.iter().filter_map(|own| match own.address {
            IpAddr::V4(address) => Some(Own { ifindex: own.ifindex, address, length: own.prefix_len }),
            IpAddr::V6(_) => None,
        })
    }
}

/// One of the machine's IPv4 addresses.
struct Own {
    ifindex: u32,
    address: Ipv4Addr,
    /// Prefix length, bits.
    length: u8,
}

impl Own {
    /// Returns true if `other` is in its subnet.
    fn is_neighbour(&self, other: IpAddr) -> bool {
        let IpAddr::V4(other) = other else { return false };
        (self.address.to_bits() ^ other.to_bits()).leading_zeros() >= self.length.into()
    }
}

#[cfg(test)]
mod tests {
    use shunt_shmlayout::address::InterfaceId;
    use shunt_shmlayout::regions::InterfaceSide;

    use super::*;
    use shunt_publish::testing::{IFINDEX, interfaces, kernel};
    use shunt_routing::event::LinkAddress;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 11]);
    /// Another link, on the clients' side.
    const OUTSIDE: u32 = IFINDEX + 5;

    fn with_addresses(all: &[(u32, &str)]) -> State {
        let mut state = kernel();
        for (ifindex, text) in all {
            let (address, length) = text.split_once('/').unwrap();
            let (address, prefix_len) = (address.parse().unwrap(), length.parse().unwrap());
            state.addresses.insert(LinkAddress { ifindex: *ifindex, address, prefix_len });
        }
        state
    }

    fn path(state: &State, sender: Sender, mac: Option<Mac>) -> Result<Path, NoPath> {
        let mut interfaces = interfaces();
        interfaces.add(OUTSIDE, InterfaceId(1), InterfaceSide::Client);
        let own = OwnAddresses::new(state, &interfaces);
        let fib = Fib::new(state, &interfaces, &own);
        let network = Network { fib: &fib, own: &own, interfaces: &interfaces, state };
        network.path(ClientWay { backend: "198.18.1.11".parse().unwrap(), sender }, |_| mac)
    }

    fn source(state: &State, sender: Sender) -> Result<String, String> {
        let found = path(state, sender, Some(MAC));
        found.map(|path| path.source.to_string()).map_err(|no_path| no_path.to_string())
    }

    #[test]
    fn frames_go_to_the_next_hop_from_an_address_in_its_subnet() {
        let state = with_addresses(&[
            (IFINDEX, "198.18.9.1/24"),
            (IFINDEX, "198.18.1.1/24"),
            (IFINDEX, "2001:db8::1/64"),
            (OUTSIDE, "198.18.1.2/24"),
        ]);
        let source = Ipv4Addr::new(198, 18, 1, 1);
        assert_eq!(path(&state, Sender::Neighbour, Some(MAC)), Ok(Path { ifindex: IFINDEX, mac: MAC.0, source }));
    }

    #[test]
    fn the_clients_side_is_another_link_if_there_is_one() {
        let service: IpAddr = "198.18.0.100".parse().unwrap();
        let sender = Sender::ClientSide(service);
        let mut all = vec![(IFINDEX, "198.18.0.9/24")];
        assert_eq!(source(&with_addresses(&all), sender), Ok("198.18.0.9".to_owned()), "one for both");
        all.extend([(OUTSIDE, "198.18.7.1/24"), (OUTSIDE, "198.18.0.1/24"), (OUTSIDE, "198.18.8.1/24")]);
        assert_eq!(source(&with_addresses(&all), sender), Ok("198.18.0.1".to_owned()));
        // Not a link of Shunt's, though it has the service's address for the box's own programs.
        let pseudo = with_addresses(&[(IFINDEX + 1, "198.18.0.100/32")]);
        let expected = "the clients' side has no IPv4 address to check from; give it one, or write as_client = false";
        assert_eq!(source(&pseudo, sender), Err(expected.to_owned()));
    }

    #[test]
    fn what_is_missing_is_named() {
        let backend: IpAddr = "198.18.1.11".parse().unwrap();
        let state = with_addresses(&[(IFINDEX, "198.18.1.1/24")]);
        assert_eq!(path(&state, Sender::Neighbour, None), Err(NoPath::Unresolved(backend)));
        let without = with_addresses(&[(IFINDEX, "2001:db8::1/64")]);
        let refused = source(&without, Sender::Neighbour).unwrap_err();
        assert!(refused.starts_with("interface eth7 has no IPv4 address"), "{refused}");
        let without = State { routes: Default::default(), ..state };
        assert_eq!(path(&without, Sender::Neighbour, Some(MAC)), Err(NoPath::NoRoute(backend)));
    }
}
