//! Publication as a whole, on memory of the test's own: what a switcher would find after each change.

use proptest::prelude::*;
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::address::{Address, BackendId, Mac, PortBe, Protocol, TCP};
use shunt_shmlayout::config_table::{BackendRecord, FibRoute, Generation};
use shunt_shmlayout::endpoints::{AddressUse, Endpoint};
use shunt_shmlayout::flip::{Active, follow};
use shunt_shmlayout::mode::Mode;
use shunt_shmlayout::regions::{ControlRegion, ControlShape, SwitcherRecord, Whole};
use shunt_shmlayout::service::{Algorithm, OnBackendDown, ServiceView};
use shunt_shmlayout::sync::Ordering;

use super::error::{CapacityError, Unpublishable};
use super::publisher::Publisher;
use super::retirement::ConnectionCounts;
use super::table::NamedIds;
use super::testing::*;
use crate::health::Health;
use shunt_routing::event::{Neighbour, NeighbourKey, NeighbourState};

fn service_at(generation: &Generation, number: u8) -> ServiceView {
    let found = generation.find(&Address::from_v4([198, 18, 0, number]), PortBe::new(80), TCP);
    let Some(Endpoint::Service(id)) = found else { panic!("no service {number}") };
    generation.service(id).expect("a record")
}

fn backend_of_reply(generation: &Generation, number: u8) -> Option<Endpoint> {
    generation.find(&Address::from_v4([198, 18, 1, number]), PortBe::new(8080), TCP)
}

/// The backends that new connections of a service go to.
fn chosen(generation: &Generation, number: u8) -> Vec<BackendId> {
    let service = service_at(generation, number);
    let hashes = (0..2000u32).map(|n| n.wrapping_mul(0x9e37_79b9));
    let mut ids: Vec<_> = hashes.filter_map(|hash| generation.slot(&service, hash)).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn flags(generation: &Generation, id: BackendId) -> Option<u8> {
    generation.backend(id).map(|record| record.flags)
}

#[test]
fn a_switcher_finds_services_backends_and_ways() {
    let mut world = World::new(region(), vec![]);
    let generation = world.apply(&[(1, "nat", &[(1, 1), (2, 3)]), (2, "dsr", &[(3, 1)])]);
    assert_eq!(chosen(&generation, 1), [world.backend(1), world.backend(2)]);
    assert_eq!(generation.address_use(&Address::from_v4([198, 18, 0, 1])), Some(AddressUse::Services));
    assert_eq!(backend_of_reply(&generation, 1), Some(Endpoint::Backend(world.backend(1))));
    let dsr = generation.find(&Address::from_v4([198, 18, 1, 3]), PortBe::new(80), TCP);
    assert_eq!(dsr, None, "replies of mode dsr never come");
    let backend = generation.backend(world.backend(2)).unwrap();
    let hop = world.region.neighbours.get(backend.neighbour);
    assert_eq!(hop, Some((INTERFACE, Address::from_v4([198, 18, 1, 2]), None)));
    assert_eq!(generation.route(&Address::from_v4([198, 18, 0, 77])), Some(FibRoute::OnLink(INTERFACE)));
    let Some(FibRoute::Gateway(INTERFACE, gateway)) = generation.route(&Address::from_v4([203, 0, 113, 1])) else {
        panic!("no gateway")
    };
    assert_eq!(world.region.neighbours.get(gateway).unwrap().1, Address::from_v4([198, 18, 0, 254]));
    assert_eq!(generation.route(&Address::from_v4([192, 0, 2, 1])), None, "by an interface that isn't Shunt's");
    assert_eq!(generation.service_names[0].load().to_string(), "s1");
}

#[test]
fn services_and_addresses_of_the_host_lead_to_it() {
    let region = region();
    let mut world = World::new(region, vec![]);
    let address = |last| Address::from_v4([198, 18, 0, last]);
    let service = |generation: &Generation| generation.find(&address(1), PortBe::new(80), TCP);
    let generation = world.apply(&[(1, "host", &[]), (2, "nat", &[(3, 1)])]);
    let id = world.service(1);
    assert_eq!(service(&generation), Some(Endpoint::HostService(id)));
    let uses = [1, 2, 101].map(|last| generation.address_use(&address(last)));
    assert_eq!(uses, [Some(AddressUse::Shared), Some(AddressUse::Services), Some(AddressUse::Host)]);
    assert!(world.table.leaving().is_empty(), "without backends, yet not removed");

    let mut restarted = World::new(region, vec![]);
    assert!(restarted.table.leaving().is_empty());
    let generation = restarted.apply(&[(1, "nat", &[(3, 1)])]);
    assert_eq!((service(&generation), restarted.service(1)), (Some(Endpoint::Service(id)), id), "another target now");
    assert_eq!(generation.address_use(&address(101)), None);
    let generation = restarted.apply(&[(1, "host", &[])]);
    assert_eq!(service(&generation), Some(Endpoint::HostService(id)));
    restarted.apply(&[(2, "nat", &[(3, 1)])]);
    assert!(restarted.table.leaving().services.contains(&id));
}

#[test]
fn ids_stay_through_reload_and_restart() {
    let region = region();
    let mut world = World::new(region, vec![]);
    world.apply(&[(1, "nat", &[(1, 1), (2, 1), (3, 1)]), (2, "nat", &[(3, 1)])]);
    let (service, backends) = (world.service(2), [1, 2, 3].map(|n| world.backend(n)));
    world.apply(&[(2, "nat", &[(3, 1), (4, 1)]), (1, "nat", &[(2, 1), (1, 1)])]);
    assert_eq!((world.service(2), [1, 2, 3].map(|n| world.backend(n))), (service, backends));
    world.table.set_drained(world.backend(1), true);
    world.table.set_health(service, world.backend(4), Health::Down);
    let before = world.publish().unwrap();
    let slots: Vec<_> = before.slots[..202].iter().map(|slot| slot.load(Ordering::Relaxed)).collect();

    let mut restarted = World::new(region, vec![]);
    let after = restarted.apply(&[(1, "nat", &[(1, 1), (2, 1)]), (2, "nat", &[(3, 1), (4, 1)])]);
    assert_eq!((restarted.service(2), [1, 2, 3].map(|n| restarted.backend(n))), (service, backends));
    let drained = BackendRecord::UP | BackendRecord::DRAINED | BackendRecord::STALE;
    assert_eq!(flags(&after, backends[0]).unwrap(), drained);
    assert_eq!(restarted.table.health(service, restarted.backend(4)), Health::Down);
    assert_eq!(chosen(&after, 2), [backends[2]]);
    assert!(after.slots[..202].iter().zip(&slots).all(|(slot, before)| slot.load(Ordering::Relaxed) == *before));
}

#[test]
fn a_removed_backend_stays_until_its_last_connection_and_both_generations_forgot_it() {
    let mut world = World::new(region(), vec![]);
    world.apply(&[(1, "nat", &[(1, 1), (2, 1)])]);
    let gone = world.backend(1);
    let generation = world.apply(&[(1, "nat", &[(2, 1)])]);
    assert_eq!(flags(&generation, gone).unwrap() & BackendRecord::REMOVED, BackendRecord::REMOVED);
    assert_eq!(chosen(&generation, 1), [world.backend(2)]);
    assert_eq!(backend_of_reply(&generation, 1), Some(Endpoint::Backend(gone)));

    let leaving = world.table.leaving();
    assert!(world.table.is_draining() && leaving.backends.contains(&gone));
    assert!(world.table.retire(&leaving, &counts(&[(gone, 1)])).is_empty());
    assert_eq!(world.table.retire(&leaving, &counts(&[])), ["backend b1"]);
    let generation = world.apply(&[(1, "nat", &[(2, 1), (3, 1)])]);
    assert_ne!(world.backend(3), gone, "a generation in memory still names the id");
    assert_eq!((flags(&generation, gone), backend_of_reply(&generation, 1)), (None, None));
    world.publish().unwrap();
    world.apply(&[(1, "nat", &[(2, 1), (3, 1), (4, 1)])]);
    assert_eq!(world.backend(4), gone);
}

/// Counts as a scan of the connection table would make them.
fn counts(backends: &[(BackendId, usize)]) -> ConnectionCounts {
    use shunt_shmlayout::address::ServiceId;
    use shunt_shmlayout::connections::{Activity, LastHop, Owner, Snapshot, State};
    use shunt_shmlayout::regions::{ConnectionsRegion, ConnectionsShape, Whole};
    let region = ConnectionsRegion::anonymous(&ConnectionsShape::new(1024)).unwrap();
    let table = region.table().unwrap();
    let mut owner = Owner::adopt(table, 0, Default::default());
    let (activity, hop) = (
        Activity { last_seen_ms: 1, state: State::Established, flags: 0 },
        LastHop { mac: [2; 6], interface: INTERFACE },
    );
    for (backend, number) in backends {
        for n in 0..*number {
            let (client, client_port) = (Address::from_v4([198, 19, 0, 1]), PortBe::new(1000 + n as u16));
            let service = ServiceId(0);
            let connection = Snapshot {
                client,
                client_port,
                service,
                backend: *backend,
                protocol: Protocol::Tcp.into(),
                mode: Mode::Nat.into(),
                created_ms: 1,
            };
            owner.record(&connection, table.hashes(&connection), activity, hop).unwrap();
        }
    }
    let counts = ConnectionCounts::scan(&region.lend().table().unwrap(), 8, 16);
    let total: usize = backends.iter().map(|(_, number)| number).sum();
    assert_eq!(counts.of_service(ServiceId(0)), total as u64);
    counts
}

#[test]
fn a_service_that_left_takes_no_connection_and_keeps_those_it_has() {
    let mut world = World::new(region(), vec![]);
    world.apply(&[(1, "nat", &[(1, 1)]), (2, "nat", &[(2, 1)])]);
    let id = world.service(2);
    let generation = world.apply(&[(1, "nat", &[(1, 1)])]);
    let service = service_at(&generation, 2);
    assert_eq!((service.slots_count, service.members_count), (0, 0));
    assert!(backend_of_reply(&generation, 2).is_some());
    let again = World::new(world.region, vec![]);
    assert!(again.table.leaving().services.contains(&id), "a restarted control knows it");
    let leaving = world.table.leaving();
    let mut names = world.table.retire(&leaving, &counts(&[]));
    names.sort();
    assert_eq!(names, ["backend b2", "service s2"]);
    let generation = world.publish().unwrap();
    assert_eq!(generation.find(&Address::from_v4([198, 18, 0, 2]), PortBe::new(80), TCP), None);
    assert_eq!(generation.address_use(&Address::from_v4([198, 18, 0, 2])), None);
}

#[test]
fn what_comes_back_while_it_leaves_is_the_same_one_and_not_retired() {
    let mut world = World::new(region(), vec![]);
    world.apply(&[(1, "nat", &[(1, 1), (2, 1)])]);
    let id = world.backend(1);
    world.table.set_drained(id, true);
    world.apply(&[(1, "nat", &[(2, 1)])]);
    let leaving = world.table.leaving();
    let generation = world.apply(&[(1, "nat", &[(1, 1), (2, 1)])]);
    assert_eq!((world.backend(1), flags(&generation, id)), (id, Some(BackendRecord::UP)));
    assert!(world.table.retire(&leaving, &counts(&[])).is_empty());
}

/// From when on the connections of each pair of backend and service are stale, as published.
fn stale(generation: &Generation) -> Vec<(u16, u16, u32)> {
    generation.stale_pairs().map(|pair| (pair.backend, pair.service, pair.from_s)).collect()
}

#[test]
fn connections_of_a_backend_that_is_down_are_stale_for_that_service_alone() {
    let mut world = World::new(region(), vec![]);
    world.apply_with(&[(1, "nat", &[(1, 1), (2, 1)]), (2, "nat", &[(1, 1)])], "on_backend_down = \"reset\"");
    let (service, b1, b2) = (world.service(1), world.backend(1), world.backend(2));
    world.table.set_health(service, b1, Health::Down);
    let generation = world.publish().unwrap();
    assert_eq!(stale(&generation), [(b1.0, service.0, 0)]);
    assert_eq!(service_at(&generation, 1).on_backend_down, OnBackendDown::Reset);
    let is_flagged = |id| flags(&generation, id).unwrap() & BackendRecord::STALE != 0;
    assert!(is_flagged(b1) && !is_flagged(b2));
    assert!(generation.stale(service, b1, 0).is_some() && generation.stale(world.service(2), b1, 0).is_none());
    world.table.set_health(service, b1, Health::Up);
    let generation = world.publish().unwrap();
    assert_eq!((stale(&generation), flags(&generation, b1)), (vec![], Some(BackendRecord::UP)));
}

#[test]
fn a_backend_taken_out_has_its_drain_timeout_by_whichever_way_and_through_a_restart() {
    let region = region();
    let mut world = World::new(region, vec![]);
    let both: &[ServiceOf<'_>] = &[(1, "nat", &[(1, 1), (2, 1), (3, 1)]), (2, "nat", &[(2, 1)])];
    let timeout = "drain_timeout_s = 60";
    world.apply_with(both, timeout);
    let (service, [b1, b2, b3]) = (world.service(1), [1, 2, 3].map(|n| world.backend(n)));
    world.now_ms = 9_900;
    world.table.set_drained(b1, true);
    world.publish().unwrap();
    world.now_ms = 19_900;
    world.table.set_feedback(service, &[(b3, 1000, true)]);
    let generation = world.apply_with(&[(1, "nat", &[(1, 1), (3, 1)]), (2, "nat", &[(2, 1)])], timeout);
    // Drained at 10 s, taken out of one of two services and declined at 20 s; each second begun counts.
    let expected = vec![(b1.0, service.0, 71), (b2.0, service.0, 81), (b3.0, service.0, 81)];
    assert_eq!(stale(&generation), expected);
    assert!(generation.stale(service, b1, 70_999).is_none() && generation.stale(service, b1, 71_000).is_some());

    let mut restarted = World::new(region, vec![]);
    restarted.now_ms = 49_900;
    let generation = restarted.apply_with(&[(1, "nat", &[(1, 1), (3, 1)]), (2, "nat", &[(2, 1)])], timeout);
    assert_eq!(stale(&generation), expected, "a deadline stays");
    restarted.table.set_drained(b1, false);
    restarted.table.set_feedback(service, &[(b3, 1000, false)]);
    let generation = restarted.apply_with(both, timeout);
    assert_eq!(stale(&generation), [], "all are back");

    restarted.now_ms = 99_900;
    let generation = restarted.apply(&[(2, "nat", &[(2, 1)])]);
    let of_service: Vec<_> = [b1, b2, b3].map(|id| (id.0, service.0, 161)).into();
    assert_eq!(stale(&generation), of_service, "the service itself is gone");
    restarted.table.retire(&restarted.table.leaving(), &counts(&[]));
    assert_eq!(stale(&restarted.publish().unwrap()), []);
}

#[test]
fn a_pair_is_forgotten_when_its_last_connection_must_have_ended() {
    let mut world = World::new(region(), vec![]);
    let shared: &[ServiceOf<'_>] = &[(1, "nat", &[(1, 1), (2, 1)]), (2, "nat", &[(2, 1)])];
    let lines = "drain_timeout_s = 0\ntimeouts = { tcp_established = 100 }";
    world.apply_with(shared, lines);
    let left: &[ServiceOf<'_>] = &[(1, "nat", &[(1, 1)]), (2, "nat", &[(2, 1)])];
    assert_eq!(stale(&world.apply_with(left, lines)).len(), 1);
    world.now_ms = 90_000;
    assert_eq!(stale(&world.publish().unwrap()).len(), 1);
    world.now_ms = 110_000;
    assert_eq!(stale(&world.publish().unwrap()), []);
}

#[test]
fn no_backend_up_leaves_no_slot_and_the_first_up_takes_all() {
    let mut world = World::new(region(), vec![]);
    world.apply(&[(1, "nat", &[(1, 1), (2, 1)]), (2, "nat", &[(1, 1)])]);
    let service = world.service(1);
    for backend in [1, 2] {
        assert!(world.table.set_health(service, world.backend(backend), Health::Down));
    }
    let generation = world.publish().unwrap();
    assert_eq!(service_at(&generation, 1).slots_count, 0);
    assert_eq!(chosen(&generation, 2), [world.backend(1)], "another service's check says nothing here");
    assert_eq!(flags(&generation, world.backend(1)), Some(BackendRecord::STALE));
    assert!(world.table.set_health(service, world.backend(2), Health::Up));
    assert!(!world.table.set_health(service, world.backend(2), Health::Up), "no change");
    let generation = world.publish().unwrap();
    assert_eq!(chosen(&generation, 1), [world.backend(2)]);
}

#[test]
fn a_backend_keeps_its_replies_when_its_service_becomes_dsr() {
    let mut world = World::new(region(), vec![]);
    use shunt_config::Mode::{Dsr, Nat};
    let with = |mode| {
        // Written as dsr, so that the backend's port is the same in both modes.
        let mut config = config(&[(1, "dsr", &[(1, 1)])]);
        config.services[0].mode = mode;
        config
    };
    let find = |generation: &Generation| generation.find(&Address::from_v4([198, 18, 1, 1]), PortBe::new(80), TCP);
    for (mode, found) in [(Dsr, false), (Nat, true), (Dsr, true)] {
        world.table = world.table.configured(&with(mode), &NamedIds::default()).unwrap();
        let generation = world.publish().unwrap();
        assert_eq!(find(&generation).is_some(), found, "{mode:?}");
        world = World::new(world.region, vec![]);
    }
}

#[test]
fn the_buffer_of_a_live_reader_is_left_alone() {
    let reader = switcher();
    let mut world = World::new(region(), vec![reader]);
    let active = &world.region.head.active;
    world.apply(&[(1, "nat", &[(1, 1)])]);
    let used = follow(active, &reader.head.in_use, Active::NONE);
    world.apply(&[(1, "nat", &[(1, 1), (2, 1)])]);
    assert!(world.publish().is_none() && !world.publisher.is_settled());
    let holders = world.publisher.behind(2);
    assert_eq!(holders.iter().map(|h| (h.switcher, h.pid, h.epoch)).collect::<Vec<_>>(), [(0, std::process::id(), 1)]);
    follow(active, &reader.head.in_use, used);
    assert!(world.publish().is_some());
}

#[test]
fn the_buffer_of_a_dead_reader_is_free() {
    for (pid, start_time) in [(0, 0), (std::process::id(), 1)] {
        let reader = switcher();
        let mut world = World::new(region(), vec![reader]);
        world.apply(&[(1, "nat", &[(1, 1)])]);
        follow(&world.region.head.active, &reader.head.in_use, Active::NONE);
        world.apply(&[(1, "nat", &[(2, 1)])]);
        assert!(world.publish().is_none());
        reader.head.pid.set(0);
        assert!(world.publish().is_none(), "what a switcher says of itself changes nothing");
        world.keeper.switchers[0].store(&SwitcherRecord { pid, start_time, ..SwitcherRecord::default() });
        assert!(world.publish().is_some());
    }
}

#[test]
fn a_living_keeper_is_waited_for_and_a_dead_one_is_not() {
    let (region, keeper) = (region(), keeper());
    let mut publisher = Publisher::new(region, keeper.lend(), vec![], 0);
    let alive = switcher();
    keeper.head.pid.set(alive.head.pid.get());
    keeper.head.start_time.set(alive.head.start_time.get());
    let fill = |publisher: &mut Publisher, now_ms| {
        let idle = publisher.room(now_ms).unwrap();
        publisher.fill(&idle, now_ms, |_| Ok::<_, ()>(())).unwrap();
    };
    fill(&mut publisher, 0);
    assert_eq!(region.head.prepared.load(Ordering::Relaxed), Active::NONE.next().0);
    assert!(publisher.room(5).is_none(), "one at a time");
    assert_eq!(publisher.advance(99), None);
    keeper.head.owned.store(Active::NONE.next().0, Ordering::Release);
    assert_eq!(publisher.advance(99).map(Active::epoch), Some(1));
    assert!(publisher.room(100).is_none() && publisher.room(109).is_some(), "a gap between publications");
    fill(&mut publisher, 109);
    assert_eq!(publisher.advance(208), None);
    assert_eq!(publisher.advance(209).map(Active::epoch), Some(2), "a slow keeper is waited for so long only");
    fill(&mut publisher, 300);
    keeper.head.pid.set(0);
    assert_eq!(publisher.advance(300).map(Active::epoch), Some(3));
}

/// An odd number would make the keeper believe nothing that it reads of that buffer, until the next publication.
#[test]
fn a_buffer_that_is_not_filled_is_whole_and_one_filled_in_part_is_empty() {
    let mut world = World::new(region(), vec![]);
    let generation = world.apply(&[(1, "nat", &[(1, 1)])]);
    world.apply(&[(1, "nat", &[(1, 1)])]);
    let (active, fills) = (world.publisher.active(), || world.region.head.fills.load(Ordering::Relaxed));
    let before = fills();
    assert!(generation.backend(world.backend(1)).is_some());
    let idle = world.publisher.room(1_000).unwrap();
    assert_eq!((fills(), before % 2), (before, 0), "nothing is written yet");
    assert_eq!(world.publisher.fill(&idle, 1_000, |_| Err("no room")), Err("no room"));
    assert_eq!(fills(), before + 2);
    assert!(generation.backend(world.backend(1)).is_none());
    assert_eq!(world.region.head.prepared.load(Ordering::Relaxed), active.0, "nothing is announced");
    assert!(world.publisher.room(1_999).is_none() && world.publisher.room(2_000).is_some(), "tried again later");
}

#[test]
fn an_epoch_announced_by_a_dead_control_is_taken_back() {
    let (region, keeper) = (region(), keeper());
    let mut world = World::new(region, vec![]);
    world.apply(&[(1, "nat", &[(1, 1)])]);
    let (active, announced) = (world.publisher.active(), world.publisher.active().next());
    region.head.prepared.store(announced.0, Ordering::Release);
    keeper.head.owned.store(announced.0, Ordering::Release);
    let alive = switcher();
    keeper.head.pid.set(alive.head.pid.get());
    keeper.head.start_time.set(alive.head.start_time.get());
    let mut successor = Publisher::new(region, keeper.lend(), vec![], 0);
    assert!(successor.room(0).is_none(), "the keeper takes its addresses for those of the coming epoch");
    assert_eq!(region.head.prepared.load(Ordering::Relaxed), active.0);
    keeper.head.owned.store(active.0, Ordering::Release);
    assert!(successor.room(1).is_some());
}

#[test]
fn a_reload_without_room_is_refused_and_changes_nothing() {
    let mut world = World::new(region(), vec![]);
    world.apply(&[(1, "nat", &[(1, 1)])]);
    let all: Vec<(u8, u16)> = (1..=17).map(|n| (n, 1)).collect();
    let before = format!("{:?}", world.table);
    let refused = world.reload(&[(1, "nat", &all)]).unwrap_err();
    assert_eq!(refused.field, "service.s1.backend.b17");
    assert_eq!(refused.reason, CapacityError::Ids { kind: "backend", limit: 16, leaving: 0 });
    let services: Vec<ServiceOf<'_>> = (1..=9).map(|n| (n, "nat", &all[..1])).collect();
    assert!(matches!(
        world.reload(&services),
        Err(Unpublishable { reason: CapacityError::Ids { kind: "service", .. }, .. })
    ));
    assert_eq!(format!("{:?}", world.table), before);
}

fn neighbour(number: u8, state: NeighbourState) -> (NeighbourKey, Neighbour) {
    let key = NeighbourKey { ifindex: IFINDEX, address: [198, 18, 1, number].into() };
    (key, Neighbour { key, mac: Some([2, 0, 0, 0, 0, number]), state })
}

#[test]
fn a_backends_address_is_kept_while_the_kernel_is_unsure_and_dropped_when_it_fails() {
    use NeighbourState::{Failed, Incomplete, Reachable, Stale, Verifying};
    let mut world = World::new(region(), vec![]);
    let generation = world.apply(&[(1, "nat", &[(1, 1)])]);
    let id = generation.backend(world.backend(1)).unwrap().neighbour;
    let mac = Some(Mac([2, 0, 0, 0, 0, 1]));
    let steps = [
        (Some(Incomplete), None),
        (Some(Reachable), mac),
        (Some(Stale), mac),
        (Some(Verifying), mac),
        (None, mac),
        (Some(Incomplete), mac),
        (Some(Failed), None),
        (Some(Incomplete), None),
        (Some(Reachable), mac),
    ];
    for (state, expected) in steps {
        let known = state.map(|state| neighbour(1, state)).into_iter().collect();
        world.cache.follow(&known, &interfaces());
        assert_eq!(world.region.neighbours.mac(id), expected, "{state:?}");
    }
}

#[test]
fn a_client_is_taken_in_and_forgotten_with_the_kernel() {
    let mut world = World::new(region(), vec![]);
    world.apply(&[(1, "nat", &[(1, 1)])]);
    let client = Address::from_v4([198, 18, 1, 99]);
    let mac = |world: &World| {
        let id = world.region.neighbours.find(INTERFACE, &client)?;
        world.region.neighbours.mac(id)
    };
    world.cache.follow(&[neighbour(99, NeighbourState::Stale)].into(), &interfaces());
    assert_eq!(mac(&world), Some(Mac([2, 0, 0, 0, 0, 99])));
    let mut world = World::new(world.region, vec![]);
    world.apply(&[(1, "nat", &[(1, 1)])]);
    world.cache.follow(&[].into(), &interfaces());
    assert_eq!(mac(&world), None, "forgotten also by a control that was restarted meanwhile");
}

#[test]
fn neighbours_that_a_generation_names_are_never_given_away() {
    let mut world = World::new(region(), vec![]);
    let generation = world.apply(&[(1, "nat", &[(1, 1), (2, 1), (3, 1)])]);
    let id = generation.backend(world.backend(1)).unwrap().neighbour;
    let entry = |world: &World| world.region.neighbours.get(id).map(|(interface, address, _)| (interface, address));
    let before = entry(&world);
    world.apply(&[(1, "nat", &[(2, 1), (3, 1)])]);
    world.table.retire(&world.table.leaving(), &counts(&[]));
    // The active generation has forgotten it, the idle one hasn't; sixty-four places for a thousand clients.
    world.publish().unwrap();
    for round in 0..4u8 {
        let clients = (0..=255).map(|number| {
            let (mut key, mut neighbour) = neighbour(number, NeighbourState::Reachable);
            key.address = [198, 19, round, number].into();
            neighbour.key = key;
            (key, neighbour)
        });
        world.cache.follow(&clients.collect(), &interfaces());
        assert_eq!(entry(&world), before);
    }
    world.publish().unwrap();
    let names = |generation: &Generation<Writer>| {
        let backend = generation.backend(world.backend(2));
        backend.map(|backend| backend.neighbour)
    };
    assert_eq!(names(&world.region.generations[0]), names(&world.region.generations[1]));
}

#[derive(Clone, Debug)]
enum Step {
    Reload(Vec<(u8, Vec<(u8, u16)>)>),
    Health(u8, u8, bool),
    Drain(u8, bool),
    Retire,
    Restart(Vec<(u8, Vec<(u8, u16)>)>),
}

fn step() -> impl Strategy<Value = Step> {
    let backends = prop::collection::btree_map(1u8..6, 0u16..4, 1..5)
        .prop_filter("weights that are all 0 are refused", |weights| weights.values().any(|weight| *weight > 0))
        .prop_map(Vec::from_iter);
    let services = prop::collection::btree_map(1u8..4, backends, 1..4).prop_map(Vec::from_iter);
    prop_oneof![
        3 => services.clone().prop_map(Step::Reload),
        4 => (1u8..4, 1u8..6, any::<bool>()).prop_map(|(s, b, up)| Step::Health(s, b, up)),
        2 => (1u8..6, any::<bool>()).prop_map(|(b, on)| Step::Drain(b, on)),
        1 => Just(Step::Retire),
        1 => services.prop_map(Step::Restart),
    ]
}

fn take(world: &mut World, step: Step) {
    match step {
        Step::Reload(services) => {
            let services: Vec<ServiceOf<'_>> = services.iter().map(|(s, b)| (*s, "nat", b.as_slice())).collect();
            world.reload(&services).expect("room for all there are");
        }
        Step::Health(service, backend, up) => {
            let service = world.table.service_named(&format!("s{service}"));
            let backend = world.table.backend_named(&format!("b{backend}"));
            if let (Some(service), Some(backend)) = (service, backend) {
                world.table.set_health(service, backend, if up { Health::Up } else { Health::Down });
            }
        }
        Step::Drain(backend, drained) => {
            if let Some(backend) = world.table.backend_named(&format!("b{backend}")) {
                world.table.set_drained(backend, drained);
            }
        }
        Step::Retire => drop(world.table.retire(&world.table.leaving(), &counts(&[]))),
        Step::Restart(services) => {
            *world = World::new(world.region, vec![]);
            take(world, Step::Reload(services));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_slot_names_a_present_up_undrained_member(steps in prop::collection::vec(step(), 1..30)) {
        let mut world = World::new(region(), vec![]);
        for step in steps {
            take(&mut world, step);
            let generation = world.publish().expect("a free buffer");
            for (id, service) in world.table.services() {
                let record = generation.service(id).expect("a record");
                let members: Vec<_> = generation.members_of(&record).collect();
                prop_assert_eq!(members.len(), service.members.len());
                prop_assert_eq!(record.slots_count != 0, members.iter().any(|member| member.effective != 0));
                let (first, count) = (record.slots_first as usize, record.slots_count as usize);
                for slot in &generation.slots[first..first + count] {
                    let id = BackendId(slot.load(Ordering::Relaxed));
                    let backend = generation.backend(id).expect("a present backend");
                    prop_assert_eq!(backend.flags & (BackendRecord::DRAINED | BackendRecord::REMOVED), 0);
                    let member = service.members.iter().find(|member| member.backend == id).expect("a member");
                    prop_assert_eq!(member.health, Health::Up);
                    prop_assert!(member.weight > 0);
                }
            }
        }
    }
}

#[test]
fn more_ranges_of_clients_than_16_bits_count() {
    let region = ControlRegion::anonymous(&ControlShape::new(20_000, 16, 2000, 64, 64)).expect("memory");
    let mut world = World::new(region, vec![]);
    // Every second address, so that each is a range of its own and so is what is between.
    let networks = (0..35_000u32).map(|n| format!("\"10.{}.{}.{}\"", n >> 15, n >> 7 & 255, n << 1 & 255));
    let networks: Vec<String> = networks.collect();
    let rules = format!("rule = [{{ clients = [{}], backends = [\"b2\"] }}]", networks.join(","));
    let generation = world.apply_with(&[(1, "nat", &[(1, 1), (2, 1)])], &rules);
    let service = service_at(&generation, 1);
    assert_eq!(service.classes_count, 70_000);
    for (host, expected) in [(0, 1), (1, 2), (110, 1), (112, 2)] {
        let as_served = generation.service_for(service, &Address::from_v4([10, 1, 17, host]));
        assert_eq!(as_served.members_count, expected, "10.1.17.{host}");
    }
}

#[test]
fn classes_of_clients_have_backends_and_slots_of_their_own() {
    let mut world = World::new(region(), vec![]);
    let rules = "rule = [{ clients = [\"198.18.64.0/24\"], backends = [\"b2\"] }]\nalgorithm = \"latency\"";
    let generation = world.apply_with(&[(1, "nat", &[(1, 1), (2, 1), (3, 1)]), (2, "nat", &[(4, 1)])], rules);
    let service = service_at(&generation, 1);
    let b2 = world.backend(2);
    assert_eq!(service.algorithm, Algorithm::Latency);
    for (client, expected) in [([198, 18, 64, 7], 1), ([198, 18, 63, 255], 3), ([198, 18, 65, 0], 3)] {
        let as_served = generation.service_for(service, &Address::from_v4(client));
        let members: Vec<_> = generation.members_of(&as_served).map(|member| BackendId(member.backend)).collect();
        assert_eq!(members.len(), expected, "{client:?}");
        assert!(members.contains(&b2));
        let slots = 0..as_served.slots_count;
        let cell = |slot: u32| generation.slots[(as_served.slots_first + slot) as usize].load(Ordering::Relaxed);
        assert!(slots.clone().all(|slot| members.contains(&BackendId(cell(slot)))));
        assert_eq!(slots.len(), 101);
    }
    assert_eq!(chosen(&generation, 2), [world.backend(4)], "the next service's slots are behind the classes'");
    let service = world.service(1);
    world.table.set_health(service, b2, Health::Down);
    let generation = world.publish().unwrap();
    let as_served = generation.service_for(service_at(&generation, 1), &Address::from_v4([198, 18, 64, 7]));
    assert_eq!(as_served.slots_count, 0, "nobody is left who has what they need");
}

#[test]
fn feedback_moves_shares_and_a_restart_goes_on_with_them() {
    let region = region();
    let mut world = World::new(region, vec![]);
    let even = "algorithm = \"even\"\nagent_check = { port = 9777 }";
    let services: &[ServiceOf<'_>] = &[(1, "nat", &[(1, 1), (2, 1), (3, 1)])];
    world.apply_with(services, even);
    let (service, [b1, b2, b3]) = (world.service(1), [1, 2, 3].map(|n| world.backend(n)));
    let share = |generation: &Generation, id: BackendId| {
        generation.slots[..101].iter().filter(|slot| slot.load(Ordering::Relaxed) == id.0).count()
    };
    assert!(world.table.set_feedback(service, &[(b1, 500, false), (b2, 1500, false), (b3, 1000, true)]));
    let before = world.publish().unwrap();
    assert_eq!([b1, b2, b3].map(|id| share(&before, id)), [25, 76, 0]);
    assert!(!world.table.set_feedback(service, &[(b1, 501, false), (b2, 1490, false)]), "hardly another");

    let mut restarted = World::new(region, vec![]);
    let after = restarted.apply_with(services, even);
    assert_eq!([b1, b2, b3].map(|id| share(&after, id)), [25, 76, 0]);
    assert_eq!(restarted.table.health(service, b3), Health::Up, "it declined, and its checks pass");
    let after = restarted.apply_with(services, "");
    assert!(share(&after, b1).abs_diff(share(&after, b2)) <= 1, "static again");
}

#[test]
fn a_backend_that_its_check_finds_down_gets_nothing_whatever_is_reported() {
    let mut world = World::new(region(), vec![]);
    world.apply_with(&[(1, "nat", &[(1, 1), (2, 1)])], "");
    let (service, [b1, b2]) = (world.service(1), [1, 2].map(|n| world.backend(n)));
    world.table.set_health(service, b1, Health::Down);
    world.table.set_feedback(service, &[(b1, 48_000, false), (b2, 1, false)]);
    let generation = world.publish().unwrap();
    assert!(chosen(&generation, 1).iter().all(|backend| *backend == b2));
}
