//! The ARP cache in shared memory, kept in step with the kernel's neighbour table.
//!
//! Entries that a generation names (backends' next hops, gateways) are "kept": they are never given away, and they lose
//! their Ethernet address only when the kernel says that the neighbour doesn't answer (FAILED). While the kernel is
//! merely unsure of it, asks for the first time or has thrown its own entry away, the last address goes on to serve.
//! All other entries are clients on the links: what the kernel forgets of them is forgotten here, and switchers answer to
//! where the client's last packet came from.

use std::collections::{BTreeMap, BTreeSet};

use shunt_shmlayout::access::{Access, Writer};
use shunt_shmlayout::address::{BackendId, Mac, NeighbourId};
use shunt_shmlayout::config_table::{FibRoute, Generation};
use shunt_shmlayout::neighbours::Neighbours;

use super::fib::{Hop, Interfaces};
use shunt_routing::event::{Neighbour, NeighbourKey, NeighbourState};

/// Where each hop stands in the cache.
pub type Interned = BTreeMap<Hop, NeighbourId>;

/// What the kernel last said of a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sighting {
    mac: Option<Mac>,
    failed: bool,
}

/// Control's side of the cache.
pub struct ArpCache {
    table: Neighbours<'static, Writer>,
    /// Entries that must not be given away.
    named: BTreeSet<NeighbourId>,
    kept: BTreeSet<Hop>,
    seen: BTreeMap<Hop, Sighting>,
}

impl ArpCache {
    /// Takes the cache over as it stands, with the entries that `generations` name.
    pub fn new<A: Access>(table: Neighbours<'static, Writer>, generations: &[Generation<A>]) -> Self {
        let ids = (0..table.0.len()).map(|id| NeighbourId(id as u32));
        let known = ids.filter_map(|id| table.get(id));
        let seen = known.filter(|(.., mac)| mac.is_some()).map(|(interface, address, mac)| {
            let sighting = Sighting { mac, failed: false };
            (Hop { interface, address }, sighting)
        });
        let named = named_in(generations);
        let kept = named.iter().filter_map(|id| table.get(*id));
        let kept = kept.map(|(interface, address, _)| Hop { interface, address }).collect();
        Self { table, named, kept, seen: seen.collect() }
    }

    /// Finds or makes the entries of `hops`, which are the kept ones from now on. One that finds no place is left out.
    pub fn keep<A: Access>(&mut self, hops: BTreeSet<Hop>, generations: &[Generation<A>]) -> Interned {
        self.named = named_in(generations);
        let mut interned = Interned::new();
        for hop in &hops {
            let named = &self.named;
            let Ok(id) = self.table.intern(hop.interface, &hop.address, |id| named.contains(&id)) else { continue };
            self.named.insert(id);
            interned.insert(*hop, id);
            if let Some(Sighting { mac: Some(mac), .. }) = self.seen.get(hop) {
                self.table.resolve(id, Some(*mac));
            }
        }
        self.kept = hops;
        interned
    }

    /// The hops that are kept.
    pub fn kept(&self) -> impl Iterator<Item = &Hop> {
        self.kept.iter()
    }

    /// Takes in what the kernel knows now.
    pub fn follow(&mut self, known: &BTreeMap<NeighbourKey, Neighbour>, interfaces: &Interfaces) {
        let now: BTreeMap<Hop, Sighting> =
            known.values().filter_map(|neighbour| Some((interfaces.hop(&neighbour.key)?, sight(neighbour)?))).collect();
        let before = std::mem::take(&mut self.seen);
        for (hop, sighting) in now.iter().filter(|(hop, sighting)| before.get(hop) != Some(sighting)) {
            self.note(hop, *sighting);
        }
        for hop in before.keys().filter(|hop| !now.contains_key(hop) && !self.kept.contains(hop)) {
            self.resolve_known(hop, None);
        }
        self.seen = now;
    }

    fn note(&self, hop: &Hop, sighting: Sighting) {
        match sighting.mac {
            Some(mac) => {
                let id = self.table.intern(hop.interface, &hop.address, |id| self.named.contains(&id));
                // Without a place a client's replies still go where its packets come from.
                if let Ok(id) = id {
                    self.table.resolve(id, Some(mac));
                }
            }
            None if sighting.failed || !self.kept.contains(hop) => self.resolve_known(hop, None),
            None => {}
        }
    }

    fn resolve_known(&self, hop: &Hop, mac: Option<Mac>) {
        if let Some(id) = self.table.find(hop.interface, &hop.address) {
            self.table.resolve(id, mac);
        }
    }
}

/// `None` for what can't be anybody's next hop: multicast and broadcast entries, which the kernel lists too.
fn sight(neighbour: &Neighbour) -> Option<Sighting> {
    let mac = neighbour.usable_mac().filter(|mac| *mac != [0; 6]);
    if mac.is_some_and(|mac| mac[0] & 1 != 0) || neighbour.key.address.is_multicast() {
        return None;
    }
    Some(Sighting { mac: mac.map(Mac), failed: neighbour.state == NeighbourState::Failed })
}

fn named_in<A: Access>(generations: &[Generation<A>]) -> BTreeSet<NeighbourId> {
    let mut named = BTreeSet::new();
    for generation in generations {
        let backends = (0..generation.backends.len()).filter_map(|id| generation.backend(BackendId(id as u16)));
        named.extend(backends.map(|backend| backend.neighbour));
        named.extend(generation.routes().filter_map(|route| match route {
            FibRoute::Gateway(_, gateway) => Some(gateway),
            FibRoute::OnLink(_) | FibRoute::Unknown => None,
        }));
    }
    named
}
