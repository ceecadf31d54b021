//! Tracks which addresses were announced on which link: each is announced when it is new or the link comes up. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use crate::routing_daemon::announce::Place;
use shunt_publish::fib::Interfaces;
use shunt_publish::table::Table;
use shunt_routing::event::Link;

/// The announced addresses.
#[derive(Default)]
pub struct Announcements {
    made: BTreeSet<(Place, Ipv4Addr)>,
}

/// What an update changes.
#[derive(Default)]
pub struct Update {
    /// Addresses to announce, by place.
    pub new: BTreeMap<Place, Vec<Ipv4Addr>>,
    /// Addresses that are no longer served there.
    pub left: Vec<(Place, Ipv4Addr)>,
}

impl Announcements {
    /// Which announcements must start and stop since the previous call.
    pub fn update(&mut self, table: &Table, links: &BTreeMap<u32, Link>, interfaces: &Interfaces) -> Update {
        let due = due(table, links, interfaces);
        let update =
            Update { new: by_place(due.difference(&self.made)), left: self.made.difference(&due).copied().collect() };
        self.made = due;
        update
    }
}

fn by_place<'a>(all: impl Iterator<Item = &'a (Place, Ipv4Addr)>) -> BTreeMap<Place, Vec<Ipv4Addr>> {
    let mut by_place: BTreeMap<Place, Vec<Ipv4Addr>> = BTreeMap::new();
    all.for_each(|(place, address)| by_place.entry(*place).or_default().push(*address));
    by_place
}

/// All service addresses and those of the machine's own programs, on every client-side link that carries packets.
fn due(table: &Table, links: &BTreeMap<u32, Link>, interfaces: &Interfaces) -> BTreeSet<(Place, Ipv4Addr)> {
    let services = table.services().filter(|(_, service)| !service.is_removed());
    let addresses = services.map(|(_, service)| service.identity.address).chain(table.host_addresses().iter().copied());
    let addresses: BTreeSet<Ipv4Addr> = addresses
        .filter_map(|address| match IpAddr::from(address) {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        })
        .collect();
    let places = interfaces.client_side().iter().filter_map(|ifindex| links.get(ifindex));
    let places = places
        .filter(|link| link.up && link.carrier)
        .filter_map(|link| Some(Place { ifindex: link.ifindex, mac: link.mac? }));
    places.flat_map(|place| addresses.iter().map(move |address| (place, *address))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_publish::table::{Capacity, NamedIds};
    use shunt_publish::testing::{IFINDEX, config, interfaces, kernel};

    #[test]
    fn each_service_address_once_on_each_living_client_side_link() {
        let capacity = Capacity { services: 8, backends: 8, slots: 2000, members: 16, classes: 8, stale: 32 };
        let config = config(&[(1, "nat", &[(1, 1)]), (2, "dsr", &[(2, 1)]), (3, "host", &[])]);
        let table = Table::new(capacity).configured(&config, &NamedIds::default()).unwrap();
        let mut links = kernel().links;
        let place = Place { ifindex: IFINDEX, mac: [2, 0, 0, 0, 0, 9] };
        let expected = [1, 2, 3, 101].map(|n| Ipv4Addr::new(198, 18, 0, n));
        let mut announcements = Announcements::default();
        let mut update = |links: &_| announcements.update(&table, links, &interfaces());
        assert_eq!(update(&links).new, [(place, expected.to_vec())].into());
        let again = update(&links);
        assert!(again.new.is_empty() && again.left.is_empty(), "once");
        links.get_mut(&IFINDEX).unwrap().carrier = false;
        let down = update(&links);
        assert!(down.new.is_empty());
        assert_eq!(down.left, expected.map(|address| (place, address)));
        links.get_mut(&IFINDEX).unwrap().carrier = true;
        assert_eq!(update(&links).new.len(), 1, "the link came up again");
    }
}
