//! What must hold.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use shunt_shmlayout::access::Access;
use shunt_shmlayout::address::{Address, BackendId, PortBe, TCP};
use shunt_shmlayout::config_table::Generation;
use shunt_shmlayout::endpoints::Endpoint;
use shunt_shmlayout::sync::Ordering;
use zerocopy::IntoBytes;

use super::super::super::testing::in_slots;
use super::Simulation;

/// The number of the backend at an address of 198.18.1.0/24.
fn number_of<A: Access>(generation: &Generation<A>, id: BackendId) -> u8 {
    generation.backend(id).expect("whatever is named has a record").address.0[15]
}

fn members<A: Access>(generation: &Generation<A>, service: u8) -> Option<Vec<u8>> {
    let at = Address::from_v4([198, 18, 0, service]);
    let Some(Endpoint::Service(id)) = generation.find(&at, PortBe::new(80), TCP) else { return None };
    let record = generation.service(id).expect("whatever is named has a record");
    let members = generation.members_of(&record).map(|member| number_of(generation, BackendId(member.backend)));
    Some(members.collect())
}

impl Simulation {
    /// What each living switcher reads, a stopped one too.
    pub fn fingerprints(&self) -> [Option<u64>; 2] {
        let generations = self.world.control.memory().control.generations;
        let read = |number: usize| Some(fingerprint(&generations[self.switchers[number].reads()?]));
        [read(0), read(1)]
    }

    /// A generation that was just filled has all of the accepted configuration, and its slots name nobody who is down or drained.
    pub fn check_generation(&self, buffer: usize) {
        let generation = &self.world.control.memory().control.generations[buffer];
        let model = &self.filled;
        for service in 1..=3 {
            let configured = model.services().iter().find(|it| it.0 == service);
            let expected = configured.map(|(_, _, backends)| backends.iter().map(|(number, _)| *number).collect());
            let found = members(generation, service);
            match expected {
                Some(expected) => assert_eq!(found, Some(expected), "service s{service}"),
                None => assert!(found.is_none_or(|members| members.is_empty()), "service s{service} left"),
            }
        }
        self.check_that_ids_mean_one_backend();
        for id in in_slots(generation) {
            let number = number_of(generation, id);
            assert!(!model.drained.contains(&number), "b{number} is drained");
            let is_up = |service: u8| model.is_member(service, number) && !model.down.contains(&(service, number));
            assert!((1..=3).any(is_up), "b{number} is down");
        }
    }

    /// A switcher that still reads the other buffer records connections that this one must understand.
    fn check_that_ids_mean_one_backend(&self) {
        let [one, other] = self.world.control.memory().control.generations;
        for id in (0..one.backends.len()).map(|id| BackendId(id as u16)) {
            if let (Some(one), Some(other)) = (one.backend(id), other.backend(id)) {
                assert_eq!(one.address, other.address, "backend {} is two", id.0);
            }
        }
    }

    /// Who is up, in service and silent gets connections.
    pub fn check_that_nobody_is_left_out(&self) {
        let generation = self.world.generation();
        let named: Vec<u8> = in_slots(&generation).into_iter().map(|id| number_of(&generation, id)).collect();
        for (service, _, backends) in self.model.services() {
            for (number, _) in *backends {
                let is_in = !self.model.down.contains(&(*service, *number)) && !self.model.drained.contains(number);
                assert!(!is_in || named.contains(number), "b{number} of s{service} is up and gets nothing");
            }
        }
    }

    /// The ids of the published backends, by number.
    pub fn published_ids(&self) -> BTreeMap<u8, BackendId> {
        let memory = self.world.control.memory();
        if memory.active().epoch() == 0 {
            return BTreeMap::new();
        }
        let generation = self.world.generation();
        let ids = (0..generation.backends.len()).map(|id| BackendId(id as u16));
        ids.filter(|id| generation.backend(*id).is_some()).map(|id| (number_of(&generation, id), id)).collect()
    }

    /// What the same backends have in control's table now.
    pub fn ids_of(&self, before: &BTreeMap<u8, BackendId>) -> BTreeMap<u8, BackendId> {
        let all = self.world.control.table().backends();
        let all = all.map(|(id, backend)| (backend.identity.address.0[15], id));
        all.filter(|(number, _)| before.contains_key(number)).collect()
    }

    /// The id of a live connection's backend means the same backend for ever, in what every switcher reads.
    pub fn check_connections(&mut self) {
        let live: Vec<_> = self.world.control.memory().connections.live().map(|(connection, ..)| connection).collect();
        let is_live = |client: u8, id: BackendId| live.iter().any(|it| it.client.0[15] == client && it.backend == id);
        self.connections.retain(|(_, client), made| is_live(*client, made.backend));
        for ((_, client), made) in &self.connections {
            let meaning = |generation: &Generation| Some(generation.backend(made.backend)?.address.0[15]);
            assert_eq!(meaning(&self.world.generation()), Some(made.address), "the backend of client {client}");
            // One that is stopped may know nothing of it yet.
            for generation in self.switchers.iter().filter_map(|switcher| switcher.generation()) {
                assert!(
                    meaning(generation).is_none_or(|number| number == made.address),
                    "the backend of client {client}"
                );
            }
        }
    }
}

/// All that a filter reads of a generation.
fn fingerprint<A: Access>(generation: &Generation<A>) -> u64 {
    let mut hasher = DefaultHasher::new();
    generation.services.iter().for_each(|record| record.load().as_bytes().hash(&mut hasher));
    generation.backends.iter().for_each(|record| record.load().as_bytes().hash(&mut hasher));
    generation.fib.iter().for_each(|record| record.load().as_bytes().hash(&mut hasher));
    generation.slots.iter().for_each(|slot| slot.load(Ordering::Relaxed).hash(&mut hasher));
    (generation.head.filled_ms.get(), generation.head.fib.get()).hash(&mut hasher);
    hasher.finish()
}
