//! A model of the kernel's network state, to which events are applied. Pure; owned by its subscriber.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use super::event::{Event, Link, LinkAddress, Neighbour, NeighbourKey, Route, RouteKey};

/// Which parts of the model an event changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Links.
    pub links: bool,
    /// Addresses.
    pub addresses: bool,
    /// Routes.
    pub routes: bool,
    /// Neighbours.
    pub neighbours: bool,
}

impl Changes {
    /// Whether anything changed.
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// Adds the changes of `other`.
    pub fn merge(&mut self, other: Self) {
        self.links |= other.links;
        self.addresses |= other.addresses;
        self.routes |= other.routes;
        self.neighbours |= other.neighbours;
    }
}

/// Links, addresses, routes and neighbours as last reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// By ifindex.
    pub links: BTreeMap<u32, Link>,
    /// This machine's addresses.
    pub addresses: BTreeSet<LinkAddress>,
    /// By table, prefix and metric.
    pub routes: BTreeMap<RouteKey, Route>,
    /// By link and address.
    pub neighbours: BTreeMap<NeighbourKey, Neighbour>,
    /// Routes changed in a way that events do not describe: the subscriber must dump them again.
    pub routes_stale: bool,
    /// Changes interrupted every attempt at a dump of links, addresses or neighbours, and some may be missing: the subscriber
    /// must dump everything again.
    pub is_incomplete: bool,
}

impl State {
    /// Applies an event. Idempotent, so events that precede a dump may be applied after it.
    pub fn apply(&mut self, event: Event) -> Changes {
        match event {
            Event::Link(link) => self.put_link(link),
            Event::LinkGone(ifindex) => self.remove_link(ifindex),
            Event::Address(address) => Changes { addresses: self.addresses.insert(address), ..Changes::default() },
            Event::AddressGone(address) => self.remove_address(address),
            Event::Route(route) => self.add_route(route),
            Event::RouteReplaced(route) => {
                Changes { routes: self.routes.insert(route.key, route) != Some(route), ..Changes::default() }
            }
            Event::RouteGone(route) => self.remove_route(route),
            Event::Neighbour(neighbour) => Changes {
                neighbours: self.neighbours.insert(neighbour.key, neighbour) != Some(neighbour),
                ..Changes::default()
            },
            Event::NeighbourGone(key) => {
                Changes { neighbours: self.neighbours.remove(&key).is_some(), ..Changes::default() }
            }
        }
    }

    /// Finds a link by name.
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    fn put_link(&mut self, link: Link) -> Changes {
        let before = self.links.insert(link.ifindex, link);
        let now = before.as_ref().and_then(|b| self.links.get(&b.ifindex));
        let links = now.is_none() || before.as_ref() != now;
        // The kernel sends no event for IPv4 routes that it removes with a link (fib_table_flush).
        if let (Some(before), Some(now)) = (&before, now) {
            self.routes_stale |= before.up && !now.up;
        }
        Changes { links, ..Changes::default() }
    }

    fn remove_link(&mut self, ifindex: u32) -> Changes {
        let (addresses, neighbours) = (self.addresses.len(), self.neighbours.len());
        let links = self.links.remove(&ifindex).is_some();
        self.addresses.retain(|a| a.ifindex != ifindex);
        self.neighbours.retain(|key, _| key.ifindex != ifindex);
        self.routes_stale |= links;
        Changes {
            links,
            addresses: addresses != self.addresses.len(),
            neighbours: neighbours != self.neighbours.len(),
            routes: false,
        }
    }

    fn remove_address(&mut self, address: LinkAddress) -> Changes {
        let addresses = self.addresses.remove(&address);
        // Routes with it as their source are removed without an event, too (fib_sync_down_addr).
        self.routes_stale |= addresses;
        Changes { addresses, ..Changes::default() }
    }

    fn add_route(&mut self, route: Route) -> Changes {
        match self.routes.entry(route.key) {
            Entry::Vacant(entry) => {
                entry.insert(route);
                Changes { routes: true, ..Changes::default() }
            }
            Entry::Occupied(entry) if *entry.get() == route => Changes::default(),
            // In a dump the kernel uses the first. Events do not tell the order; a new dump does.
            Entry::Occupied(mut entry) => {
                entry.get_mut().alternatives = true;
                self.routes_stale = true;
                Changes::default()
            }
        }
    }

    fn remove_route(&mut self, gone: Route) -> Changes {
        let Some(known) = self.routes.get(&gone.key) else {
            return Changes::default();
        };
        if known.alternatives || known.target != gone.target {
            self.routes_stale = true;
            return Changes::default();
        }
        self.routes.remove(&gone.key);
        Changes { routes: true, ..Changes::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{NeighbourState, RouteTable, RouteTarget};
    use super::*;

    fn link(ifindex: u32, up: bool) -> Link {
        Link { ifindex, name: format!("eth{ifindex}"), mac: Some([2, 0, 0, 0, 0, 1]), mtu: 1500, up, carrier: up }
    }

    fn route(prefix: &str, ifindex: u32) -> Route {
        let key = RouteKey { table: RouteTable::Main, prefix: prefix.parse().unwrap(), prefix_len: 24, metric: 0 };
        Route { key, target: RouteTarget::Via { ifindex, gateway: None }, alternatives: false }
    }

    fn neighbour(ifindex: u32) -> Neighbour {
        let key = NeighbourKey { ifindex, address: "198.18.0.2".parse().unwrap() };
        Neighbour { key, mac: Some([2; 6]), state: NeighbourState::Reachable }
    }

    #[test]
    fn a_known_event_changes_nothing() {
        let mut state = State::default();
        for event in [Event::Link(link(1, true)), Event::Route(route("198.18.0.0", 1)), Event::Neighbour(neighbour(1))]
        {
            assert!(state.apply(event.clone()).any());
            assert!(!state.apply(event).any());
        }
        assert!(!state.routes_stale);
    }

    #[test]
    fn a_link_that_goes_takes_what_was_on_it() {
        let mut state = State::default();
        let address = LinkAddress { ifindex: 1, address: "198.18.0.1".parse().unwrap(), prefix_len: 24 };
        state.apply(Event::Link(link(1, true)));
        state.apply(Event::Address(address));
        state.apply(Event::Neighbour(neighbour(1)));
        state.apply(Event::Neighbour(neighbour(2)));
        let changes = state.apply(Event::LinkGone(1));
        assert!(changes.links && changes.addresses && changes.neighbours);
        assert_eq!(state.neighbours.keys().map(|k| k.ifindex).collect::<Vec<_>>(), [2]);
        assert!(state.addresses.is_empty() && state.routes_stale);
    }

    #[test]
    fn a_link_set_down_or_an_address_removed_asks_for_the_routes_again() {
        let mut state = State::default();
        state.apply(Event::Link(link(1, true)));
        assert!(!state.routes_stale);
        assert!(state.apply(Event::Link(link(1, false))).links);
        assert!(std::mem::take(&mut state.routes_stale));
        state.apply(Event::Link(link(1, true)));
        assert!(!state.routes_stale);
        let address = LinkAddress { ifindex: 1, address: "2001:db8::1".parse().unwrap(), prefix_len: 64 };
        state.apply(Event::Address(address));
        state.apply(Event::AddressGone(address));
        assert!(state.routes_stale);
    }

    #[test]
    fn a_route_is_replaced_and_removed() {
        let mut state = State::default();
        state.apply(Event::Route(route("198.18.1.0", 1)));
        assert!(state.apply(Event::RouteReplaced(route("198.18.1.0", 2))).routes);
        assert!(state.apply(Event::RouteGone(route("198.18.1.0", 2))).routes);
        assert!(state.routes.is_empty() && !state.routes_stale);
        assert!(!state.apply(Event::RouteGone(route("198.18.1.0", 2))).any());
    }

    #[test]
    fn what_only_the_kernel_can_order_is_asked_again() {
        let mut state = State::default();
        state.apply(Event::Route(route("198.18.1.0", 1)));
        state.apply(Event::Route(route("198.18.1.0", 2)));
        assert!(std::mem::take(&mut state.routes_stale));
        state.apply(Event::RouteGone(route("198.18.1.0", 1)));
        assert!(state.routes_stale, "the second route with that key is still there");
        assert_eq!(state.routes.len(), 1);
    }
}
