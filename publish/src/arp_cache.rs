//! The ARP cache in shared memory, synchronised with the kernel's neighbour table.
//!
//! Entries that a generation references (backends' next hops, gateways) are "kept": they are never reused, and they lose
//! their Ethernet address only when the kernel reports that the neighbour does not answer (FAILED). While the kernel
//! revalidates the neighbour, resolves it for the first time or has evicted its own entry, the last address stays in use.
//! All other entries are clients on the links: an entry is removed when the kernel removes its own, and switchers then
//! reply to the source of the client's last packet.

use std::collections::{BTreeMap, BTreeSet};

use shunt_shmlayout::access::{Access, Writer};
use shunt_shmlayout::address::{BackendId, Mac, NeighbourId};
use shunt_shmlayout::config_table::{FibRoute, Generation};
use shunt_shmlayout::neighbours::Neighbours;

use super::fib::{Hop, Interfaces};
use shunt_routing::event::{Neighbour, NeighbourKey, NeighbourState};

/// The cache entry of each hop.
pub type Interned = BTreeMap<Hop, NeighbourId>;

/// The kernel's last state of a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sighting {
    mac: Option<Mac>,
    failed: bool,
}

/// Control's side of the cache.
pub struct ArpCache {
    table: Neighbours<'static, Writer>,
    /// Entries that must not be reused.
    named: BTreeSet<NeighbourId>,
    kept: BTreeSet<Hop>,
    seen: BTreeMap<Hop, Sighting>,
}

impl ArpCache {
    /// Takes over the existing cache and the entries that `generations` reference.
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

    /// Finds or creates the entries of `hops`, which become the kept ones. A hop without a free entry is omitted.
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

    /// The kept hops.
    pub fn kept(&self) -> impl Iterator<Item = &Hop> {
        self.kept.iter()
    }

    /// Applies the kernel's current neighbours.
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
                // Without an entry, replies still go to the source of the client's packets.
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

/// `None` for an address that cannot be a next hop: the kernel also lists multicast and broadcast entries.
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
