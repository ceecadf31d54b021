//! Step 214 by each algorithm, from frames to connections: a service of four backends and two switchers.

use super::testing::{BACKENDS, CLIENTS, World, pass};
use super::*;
use shunt_packet::Buffer;
use shunt_packet::PROTOCOL_TCP;
use shunt_packet::tcp::{ACK, FIN, SYN};
use shunt_packet::testing::tcp;
use shunt_shmlayout::loads::LoadRecord;
use shunt_shmlayout::mode::Mode;
use shunt_shmlayout::service::Algorithm;

const SERVICE: ([u8; 4], u16) = ([198, 18, 0, 100], 80);
const NOW_MS: u64 = 5000;

fn backend(index: u8) -> ([u8; 4], u16) {
    ([198, 18, 1, 11 + index], 8080)
}

/// The service with backends of these weights, by this algorithm.
fn world(algorithm: Algorithm, weights: [u16; 4]) -> World {
    let mut world = World::new(8192);
    let backends: Vec<BackendId> = (0..4).map(|index| world.backend(backend(index), PROTOCOL_TCP)).collect();
    let service = world.service(SERVICE, PROTOCOL_TCP, Mode::Nat, &backends);
    let members: Vec<_> = backends.into_iter().zip(weights).collect();
    world.balance(service, algorithm, &members);
    world
}

fn send(filter: &mut Filter, client: ([u8; 4], u16), flags: u8, now_ms: u64) -> Verdict {
    pass(filter, &mut tcp(client, SERVICE, flags).build(), CLIENTS, now_ms)
}

/// Opens connections from one address, by two switchers in turn, and says how many went to which backend.
fn open(world: &World, connections: u16) -> [i64; 4] {
    let mut filters = [world.filter(0), world.filter(1)];
    for port in 0..connections {
        send(&mut filters[usize::from(port % 2)], ([198, 18, 0, 2], 1000 + port), SYN, NOW_MS);
    }
    counts(world)
}

fn counts(world: &World) -> [i64; 4] {
    let count = |region: &SwitcherRegion<Writer, Writer>, backend: usize| region.in_flight[backend].get() as i64;
    core::array::from_fn(|backend| world.switchers.iter().map(|region| count(region, backend)).sum())
}

fn report(world: &World, backend: u16, load: LoadRecord) {
    let load = LoadRecord { reported_ms: NOW_MS - 10, expires_ms: NOW_MS + 1000, ..load };
    world.control.loads.set(BackendId(backend), &load);
}

#[test]
fn drained_and_down_backends_are_never_chosen_by_any_algorithm() {
    for &algorithm in Algorithm::ALL {
        let [a, b, c, d] = open(&world(algorithm, [0, 1, 0, 1]), 200);
        assert_eq!((a, c, b + d), (0, 0, 200), "{algorithm:?}");
        let none = world(algorithm, [0; 4]);
        assert_eq!(open(&none, 3), [0; 4]);
        assert_eq!(none.switchers[0].services[0].refused.get(), 2, "{algorithm:?}");
    }
}

#[test]
fn source_hash_takes_a_client_to_one_backend_and_clients_to_all() {
    let world = world(Algorithm::SourceHash, [1; 4]);
    assert_eq!(open(&world, 50).iter().filter(|count| **count > 0).count(), 1);
    let mut filter = world.filter(0);
    for client in 1..200 {
        send(&mut filter, ([198, 18, 0, client], 1000), SYN, NOW_MS);
    }
    assert!(counts(&world).iter().all(|count| *count > 20), "{:?}", counts(&world));
}

#[test]
fn source_hash_holds_for_a_port_that_is_used_again() {
    let world = world(Algorithm::SourceHash, [1; 4]);
    let mut filter = world.filter(0);
    for port in 1000..1100 {
        let client = ([198, 18, 0, 2], port);
        send(&mut filter, client, SYN, NOW_MS);
        let serving = (0..4).find(|index| counts(&world)[usize::from(*index)] > 0).expect("one serves it");
        pass(&mut filter, &mut tcp(backend(serving), client, SYN | ACK).build(), BACKENDS, NOW_MS);
        send(&mut filter, client, FIN | ACK, NOW_MS);
        pass(&mut filter, &mut tcp(backend(serving), client, FIN | ACK).build(), BACKENDS, NOW_MS);
        send(&mut filter, client, SYN, NOW_MS);
    }
    assert_eq!(counts(&world).iter().filter(|count| **count > 0).count(), 1, "{:?}", counts(&world));
}

#[test]
fn lightest_keeps_backends_near_each_other() {
    let counts = open(&world(Algorithm::Lightest, [1; 4]), 400);
    assert!(counts.iter().all(|count| (97..=103).contains(count)), "{counts:?}");
}

#[test]
fn lightest_sees_what_a_backend_does_for_others() {
    let world = world(Algorithm::Lightest, [1, 1, 0, 0]);
    report(&world, 0, LoadRecord { in_flight: 70, foreign: 50, flags: LoadRecord::IN_FLIGHT, ..Default::default() });
    assert_eq!(open(&world, 50), [0, 50, 0, 0]);
}

#[test]
fn least_connections_counts_those_of_all_switchers() {
    assert_eq!(open(&world(Algorithm::LeastConnections, [1; 4]), 40), [10; 4]);
    assert_eq!(open(&world(Algorithm::LeastConnections, [1, 1, 2, 4]), 80), [10, 10, 20, 40]);
}

#[test]
fn least_connections_follows_the_ends_that_another_switcher_saw() {
    let world = world(Algorithm::LeastConnections, [1, 1, 0, 0]);
    assert_eq!(open(&world, 20), [10, 10, 0, 0]);
    let mut filter = world.filter(1);
    let table = world.connections.table().expect("a whole table");
    let of_the_first: Vec<u16> = table
        .live()
        .filter(|(connection, ..)| connection.backend.0 == 0)
        .map(|(connection, ..)| connection.client_port.get())
        .collect();
    for port in of_the_first {
        pass(&mut filter, &mut tcp(backend(0), ([198, 18, 0, 2], port), FIN | ACK).build(), BACKENDS, NOW_MS);
    }
    assert_eq!(counts(&world), [0, 10, 0, 0]);
    for port in 0..10 {
        send(&mut filter, ([198, 18, 0, 3], 1000 + port), SYN, NOW_MS);
    }
    assert_eq!(counts(&world), [10, 10, 0, 0]);
}

#[test]
fn choices_of_one_batch_count_for_each_other() {
    let world = world(Algorithm::LeastConnections, [1; 4]);
    let mut filter = world.filter(0);
    let mut frames: Vec<Vec<u8>> =
        (0..64).map(|port| tcp(([198, 18, 0, 2], 1000 + port), SERVICE, SYN).build()).collect();
    let mut batch: Vec<PacketMetadata> = frames.iter().map(|frame| filter.parse(frame, CLIENTS, false)).collect();
    batch.iter_mut().for_each(|metadata| filter.prefetch(metadata));
    for (frame, metadata) in frames.iter_mut().zip(&batch) {
        filter.decide(&mut Buffer::from(&mut frame[..]), metadata, CLIENTS, NOW_MS);
    }
    assert_eq!(counts(&world), [16; 4]);
}

#[test]
fn latency_weighs_queues_by_how_long_a_request_takes() {
    let world = world(Algorithm::Latency, [1, 1, 0, 0]);
    report(&world, 0, LoadRecord { execution_us: 10_000, workers: 1, ..Default::default() });
    report(&world, 1, LoadRecord { execution_us: 40_000, workers: 1, ..Default::default() });
    let [a, b, ..] = open(&world, 100);
    assert!((75..=77).contains(&a) && a + b == 100, "{a}, {b}");
}

#[test]
fn latency_fills_idle_workers_first_and_then_shares_by_them() {
    for (connections, shares) in [(16, [12, 4, 0, 0]), (176, [132, 44, 0, 0])] {
        let world = world(Algorithm::Latency, [1, 1, 0, 0]);
        report(&world, 0, LoadRecord { execution_us: 10_000, workers: 12, ..Default::default() });
        report(&world, 1, LoadRecord { execution_us: 10_000, workers: 4, ..Default::default() });
        assert_eq!(open(&world, connections), shares);
    }
}

#[test]
fn latency_knows_workers_without_a_report() {
    let world = world(Algorithm::Latency, [1, 1, 0, 0]);
    world.control.loads.set(BackendId(0), &LoadRecord { workers: 3, ..Default::default() });
    world.control.loads.set(BackendId(1), &LoadRecord { workers: 1, ..Default::default() });
    assert_eq!(open(&world, 40), [30, 10, 0, 0]);
}

#[test]
fn latency_without_reports_or_with_old_ones_takes_the_least_connections() {
    let world = world(Algorithm::Latency, [1, 1, 0, 0]);
    assert_eq!(open(&world, 20), [10, 10, 0, 0]);
    report(&world, 0, LoadRecord { execution_us: 1, ..Default::default() });
    report(&world, 1, LoadRecord { execution_us: 40_000, ..Default::default() });
    let mut filter = world.filter(0);
    for port in 0..20 {
        send(&mut filter, ([198, 18, 0, 3], 1000 + port), SYN, NOW_MS + 1000);
    }
    assert_eq!(counts(&world), [20, 20, 0, 0], "they had expired");
}

#[test]
fn capability_takes_clients_to_the_backends_of_their_class() {
    for &algorithm in Algorithm::ALL {
        let mut world = world(algorithm, [1, 1, 0, 0]);
        world.class(ServiceId(0), [198, 18, 0, 64], &[(BackendId(2), 1)]);
        world.class(ServiceId(0), [198, 18, 0, 128], &[(BackendId(0), 1), (BackendId(1), 1)]);
        world.class(ServiceId(0), [198, 18, 0, 192], &[(BackendId(3), 0)]);
        let mut filter = world.filter(0);
        let mut opened = |clients: core::ops::Range<u8>| {
            let before = counts(&world);
            clients.for_each(|client| {
                send(&mut filter, ([198, 18, 0, client], 1000), SYN, NOW_MS);
            });
            let after = counts(&world);
            core::array::from_fn::<_, 4, _>(|backend| after[backend] - before[backend])
        };
        let [a, b, c, d] = opened(1..64);
        assert_eq!((a + b, c, d), (63, 0, 0), "{algorithm:?}: before the first class, the service's own");
        assert_eq!(opened(64..128), [0, 0, 63, 0], "{algorithm:?}: but the service itself");
        let [a, b, c, d] = opened(128..192);
        assert_eq!((a + b, c, d), (64, 0, 0), "{algorithm:?}");
        assert_eq!(opened(192..255), [0; 4], "{algorithm:?}: nobody there takes any");
    }
}

#[test]
fn a_service_of_very_many_backends_looks_at_some_of_them() {
    for &algorithm in Algorithm::ALL {
        let mut world = World::new(8192);
        let address = |index: u8| ([198, 18, 1, 11 + index], 80);
        let backends: Vec<_> = (0..64).map(|index| world.backend(address(index), PROTOCOL_TCP)).collect();
        let service = world.service(SERVICE, PROTOCOL_TCP, Mode::Nat, &backends);
        let mut members: Vec<_> = backends.iter().cycle().take(200).map(|id| (*id, 0)).collect();
        members[150].1 = 1;
        world.balance(service, algorithm, &members);
        let mut filter = world.filter(0);
        for port in 0..50 {
            let verdict = send(&mut filter, ([198, 18, 0, 2], 1000 + port), SYN, NOW_MS);
            assert!(matches!(verdict, Verdict::Forward(..)), "{algorithm:?}: {verdict:?}");
        }
        let only = world.switcher.in_flight[150 % 64].get();
        assert_eq!(only, 50, "{algorithm:?}: found by the cells if not in the window");
    }
}
