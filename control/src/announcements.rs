//! Which of Shunt's addresses was announced on which link, so that each is announced when it is new or the link came up.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use log::info;

use crate::routing_daemon::announce::{Announcer, Place};
use shunt_publish::table::Table;
use shunt_publish::ways::Interfaces;
use shunt_routing::event::{Link, Mac};

/// A place and an address there.
type Announcement = (u32, Mac, Ipv4Addr);

/// What was announced, and the socket to announce more.
pub struct Announcements {
    announcer: Arc<Announcer>,
    made: BTreeSet<Announcement>,
}

impl Announcements {
    /// Nothing was announced yet.
    pub fn open() -> io::Result<Self> {
        Ok(Self { announcer: Arc::new(Announcer::open()?), made: BTreeSet::new() })
    }

    /// Announces what is due now and wasn't before, from a task of its own.
    pub fn update(&mut self, table: &Table, links: &BTreeMap<u32, Link>, interfaces: &Interfaces) {
        let due = due(table, links, interfaces);
        let mut by_place: BTreeMap<(u32, Mac), Vec<Ipv4Addr>> = BTreeMap::new();
        for (ifindex, mac, address) in due.difference(&self.made) {
            by_place.entry((*ifindex, *mac)).or_default().push(*address);
        }
        self.made = due;
        for ((ifindex, mac), addresses) in by_place {
            info!("announcing {} addresses on link {ifindex}", addresses.len());
            let announcer = self.announcer.clone();
            tokio::spawn(async move { announcer.announce(&[Place { ifindex, mac }], &addresses).await });
        }
    }
}

/// Every service address, and every one of the box's own programs, on every client-side link that carries packets.
fn due(table: &Table, links: &BTreeMap<u32, Link>, interfaces: &Interfaces) -> BTreeSet<Announcement> {
    let services = table.services().filter(|(_, service)| !service.is_removed());
    let addresses = services.map(|(_, service)| service.identity.address).chain(table.host_addresses().iter().copied());
    let addresses: BTreeSet<Ipv4Addr> = addresses
        .filter_map(|address| match IpAddr::from(address) {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        })
        .collect();
    let places = interfaces.client_side().iter().filter_map(|ifindex| links.get(ifindex));
    let places = places.filter(|link| link.up && link.carrier).filter_map(|link| Some((link.ifindex, link.mac?)));
    places.flat_map(|(ifindex, mac)| addresses.iter().map(move |address| (ifindex, mac, *address))).collect()
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
        let expected = [1, 2, 3, 101].map(|n| (IFINDEX, [2, 0, 0, 0, 0, 9], Ipv4Addr::new(198, 18, 0, n)));
        assert_eq!(due(&table, &links, &interfaces()), expected.into());
        links.get_mut(&IFINDEX).unwrap().carrier = false;
        assert!(due(&table, &links, &interfaces()).is_empty());
    }
}
