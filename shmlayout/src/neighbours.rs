//! The ARP cache (patent: "saves the MAC address in the ARP cache memory"): next hops and their Ethernet addresses.
//!
//! Control updates it as the kernel's neighbour table changes; switchers read one word to send a frame. It is a hash table by
//! interface and address with a limited number of probes, so the next hop of a reply can be looked up, too.

#[cfg(not(loom))]
use crate::access::{Access, Lends};
use crate::access::{Reader, Writer};
use crate::address::{Address, InterfaceId, Mac, NeighbourId};
use crate::layout::described;
#[cfg(not(loom))]
use crate::map::lend;
use crate::sync::{Ordering, fence};
use crate::word::Word;

/// Probes of a lookup. [`places`] limits pinned next hops to an eighth of the table, where the probability that all probes
/// of one are taken is about 1e-9.
pub const PROBES: usize = 16;

const USED: u64 = 1 << 32;

/// One entry. `key` is `version << 40 | USED | interface`; the version's low bit is set while the entry is rewritten.
#[repr(C, align(32))]
#[cfg_attr(not(loom), derive(zerocopy::FromBytes))]
pub struct Neighbour<A = Reader> {
    key: Word<A>,
    address: [Word<A>; 2],
    mac: Word<A>,
}

described!(Neighbour<A> { key, address, mac });

/// A view of the table.
#[derive(Clone, Copy)]
pub struct Neighbours<'a, A = Reader>(pub &'a [Neighbour<A>]);

/// All probes of a neighbour are taken by entries in use.
#[derive(Debug, PartialEq, Eq)]
pub struct NeighboursFull;

/// Number of entries of a table for this number of backend next hops and other neighbours.
pub fn places(backends: u32, neighbours: u32) -> u32 {
    backends.saturating_mul(8).max(backends.saturating_add(neighbours)).min(1 << 31).next_power_of_two()
}

fn place(interface: InterfaceId, address: &Address) -> usize {
    address.mix(interface.0.into()) as usize
}

impl<'a, A> Neighbours<'a, A> {
    fn probes(
        &self,
        interface: InterfaceId,
        address: &Address,
    ) -> impl Iterator<Item = (u32, &'a Neighbour<A>)> + use<'a, A> {
        let (table, start) = (self.0, place(interface, address));
        (0..PROBES.min(table.len())).map(move |probe| {
            let index = start.wrapping_add(probe) % table.len();
            (index as u32, &table[index])
        })
    }

    /// Finds the entry of an address on an interface.
    pub fn find(&self, interface: InterfaceId, address: &Address) -> Option<NeighbourId> {
        let mut probes = self.probes(interface, address);
        probes.find(|(_, entry)| entry.read() == Some((interface, *address))).map(|(index, _)| NeighbourId(index))
    }

    /// The Ethernet address of a neighbour, in one consistent read: never another neighbour's, even if control reuses the
    /// entry concurrently. `None` while unresolved.
    #[inline]
    pub fn mac_of(&self, interface: InterfaceId, address: &Address) -> Option<Mac> {
        let entries = self.probes(interface, address).map(|(_, entry)| entry.read_with_mac());
        let mut matches = entries.flatten().filter(|(of, _)| *of == (interface, *address));
        Mac::from_word(matches.next()?.1)
    }

    /// The Ethernet address of an entry that the caller's generation names, and that is therefore not reused. `None` while
    /// unresolved.
    #[inline]
    pub fn mac(&self, id: NeighbourId) -> Option<Mac> {
        Mac::from_word(self.0.get(id.0 as usize)?.mac.load(Ordering::Relaxed))
    }

    /// Reads an entry: interface, address, Ethernet address.
    pub fn get(&self, id: NeighbourId) -> Option<(InterfaceId, Address, Option<Mac>)> {
        let ((interface, address), mac) = self.0.get(id.0 as usize)?.read_with_mac()?;
        Some((interface, address, Mac::from_word(mac)))
    }
}

impl Neighbours<'_, Writer> {
    /// Control only: finds or creates an entry. `in_use` returns true for entries that must not be reused because a
    /// generation names them.
    pub fn intern(
        &self,
        interface: InterfaceId,
        address: &Address,
        in_use: impl Fn(NeighbourId) -> bool,
    ) -> Result<NeighbourId, NeighboursFull> {
        if let Some(found) = self.find(interface, address) {
            return Ok(found);
        }
        let free = self.probes(interface, address).find(|(_, entry)| entry.read().is_none());
        let place = free.or_else(|| self.probes(interface, address).find(|(index, _)| !in_use(NeighbourId(*index))));
        let (index, entry) = place.ok_or(NeighboursFull)?;
        entry.write(interface, address);
        Ok(NeighbourId(index))
    }

    /// Control only: sets or clears an entry's Ethernet address.
    pub fn resolve(&self, id: NeighbourId, mac: Option<Mac>) {
        if let Some(entry) = self.0.get(id.0 as usize) {
            entry.mac.store(mac.map_or(0, Mac::word), Ordering::Relaxed);
        }
    }
}

#[cfg(not(loom))]
impl<'a, A: Access> Neighbours<'a, A> {
    /// The same table with equal or fewer rights.
    pub fn lend<B: Access>(&self) -> Neighbours<'a, B>
    where
        A: Lends<B>,
    {
        Neighbours(lend(self.0))
    }
}

impl<A> Neighbour<A> {
    /// Interface and address, consistent with each other.
    fn read(&self) -> Option<(InterfaceId, Address)> {
        self.read_with_mac().map(|(of, _)| of)
    }

    /// Interface, address and the Ethernet address's word, consistent with each other (a sequence lock: the version is the
    /// same before and after).
    #[inline]
    fn read_with_mac(&self) -> Option<((InterfaceId, Address), u64)> {
        let key = self.key.load(Ordering::Acquire); // pairs with write()
        let words = [self.address[0].load(Ordering::Relaxed), self.address[1].load(Ordering::Relaxed)];
        let mac = self.mac.load(Ordering::Relaxed);
        fence(Ordering::Acquire); // the words before the second load of the key: pairs with the fence in write()
        let consistent = key & USED != 0 && key >> 40 & 1 == 0 && self.key.load(Ordering::Relaxed) == key;
        consistent.then(|| ((InterfaceId(key as u16), Address::from_words(words)), mac))
    }
}

impl Neighbour<Writer> {
    fn write(&self, interface: InterfaceId, address: &Address) {
        let version = (self.key.load(Ordering::Relaxed) >> 40).wrapping_add(1) | 1;
        self.key.store(version << 40, Ordering::Relaxed);
        fence(Ordering::Release); // "being rewritten" before the words
        self.mac.store(0, Ordering::Relaxed);
        for (word, value) in self.address.iter().zip(address.words()) {
            word.store(value, Ordering::Relaxed);
        }
        let key = version.wrapping_add(1) << 40 | USED | u64::from(interface.0);
        self.key.store(key, Ordering::Release); // pairs with read()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn table(n: usize) -> Vec<Neighbour<Writer>> {
        (0..n).map(|_| Neighbour::new_zeroed()).collect()
    }

    #[test]
    fn interned_found_resolved_and_forgotten() {
        let entries = table(64);
        let neighbours = Neighbours(&entries);
        let address = Address::from_v4([198, 18, 1, 11]);
        let id = neighbours.intern(InterfaceId(1), &address, |_| false).unwrap();
        assert_eq!(neighbours.find(InterfaceId(1), &address), Some(id));
        assert_eq!(neighbours.find(InterfaceId(0), &address), None);
        assert_eq!(neighbours.mac(id), None);
        neighbours.resolve(id, Some(Mac([2, 0, 0, 0, 0, 1])));
        assert_eq!(neighbours.get(id), Some((InterfaceId(1), address, Some(Mac([2, 0, 0, 0, 0, 1])))));
        assert_eq!(neighbours.mac_of(InterfaceId(1), &address), Some(Mac([2, 0, 0, 0, 0, 1])));
        assert_eq!(neighbours.mac_of(InterfaceId(0), &address), None);
        neighbours.resolve(id, None);
        assert_eq!(neighbours.mac(id), None);
    }

    #[test]
    fn every_backend_of_the_limit_finds_a_place_beside_the_neighbours() {
        let (backends, others) = (1000, 4096);
        let entries = table(places(backends, others) as usize);
        let neighbours = Neighbours(&entries);
        let address = |net, n: u32| Address::from_v4([198, net, (n >> 8) as u8, n as u8]);
        for n in 0..others {
            let _ = neighbours.intern(InterfaceId(0), &address(19, n), |_| false);
        }
        let mut kept = std::collections::BTreeSet::new();
        for n in 0..backends {
            let id = neighbours.intern(InterfaceId(1), &address(18, n), |id| kept.contains(&id)).expect("a place");
            assert!(kept.insert(id));
        }
    }

    #[test]
    fn entries_in_use_are_never_given_away() {
        let entries = table(4);
        let neighbours = Neighbours(&entries);
        let address = |n| Address::from_v4([198, 18, 1, n]);
        for n in 0..4 {
            neighbours.intern(InterfaceId(0), &address(n), |_| true).unwrap();
        }
        assert_eq!(neighbours.intern(InterfaceId(0), &address(9), |_| true), Err(NeighboursFull));
        let given = neighbours.intern(InterfaceId(0), &address(9), |id| id.0 != 2).unwrap();
        assert_eq!(given, NeighbourId(2));
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;

    #[test]
    fn loom_a_neighbour_replaced_meanwhile_lends_nobody_its_ethernet_address() {
        loom::model(|| {
            let entry =
                Neighbour::<Writer> { key: Word::new(0), address: [Word::new(0), Word::new(0)], mac: Word::new(0) };
            let neighbours = Neighbours(Box::leak(Box::new([entry])));
            let address = |n| Address::from_v4([198, 18, 1, n]);
            let (mac, later) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
            let id = neighbours.intern(InterfaceId(0), &address(1), |_| false).unwrap();
            neighbours.resolve(id, Some(mac));
            let switcher = loom::thread::spawn(move || neighbours.mac_of(InterfaceId(0), &address(1)));
            let other = neighbours.intern(InterfaceId(0), &address(2), |_| false).unwrap();
            assert_eq!(other, id, "the only entry");
            neighbours.resolve(other, Some(later));
            let seen = switcher.join().unwrap();
            assert!(seen.is_none() || seen == Some(mac), "{seen:?}");
        });
    }
}
