//! The engine with ports in memory: every arrow of the patent's Fig. 5, and the sum of all counters.

use super::*;
use crate::filter::Verdict;
use crate::filter::testing::{BACKENDS, CLIENTS, World};
use crate::port::memory::Wire;
use crate::port::{Frame, Ledger, Losses, Port};
use shunt_packet::tcp::{ACK, SYN};
use shunt_packet::testing::{icmp_echo, tcp, udp};
use shunt_packet::{PROTOCOL_TCP, PROTOCOL_UDP, ethernet};
use shunt_shmlayout::frames::CHUNK;
use shunt_shmlayout::mode::Mode;

const CLIENT: ([u8; 4], u16) = ([198, 18, 0, 2], 40000);
const SERVICE: ([u8; 4], u16) = ([198, 18, 0, 100], 80);
const DNS: ([u8; 4], u16) = ([198, 18, 0, 100], 53);
const HOST: [u8; 4] = [198, 18, 0, 101];
const FRAMES: usize = 256;

struct Bench {
    world: World,
    engine: Engine,
    clients: Wire,
    backends: Wire,
    host: Wire,
}

fn bench(limit: usize) -> Bench {
    let mut world = World::new(1024);
    let b = world.backend(([198, 18, 1, 11], 80), PROTOCOL_TCP);
    let u = world.backend(([198, 18, 1, 11], 53), PROTOCOL_UDP);
    world.service(SERVICE, PROTOCOL_TCP, Mode::Nat, &[b]);
    world.service(DNS, PROTOCOL_UDP, Mode::Nat, &[u]);
    world.host_address(HOST);
    flip::publish(&world.control.head.active);
    let ledger = Ledger::new(&world.switcher.frame_owners[..FRAMES], world.switcher.journal);
    let memory = memmap2::MmapMut::map_anon(FRAMES * CHUNK as usize).unwrap().into();
    let pool = Pool::recover(memory, ledger, &[]).unwrap();
    let (clients, backends, host) = (Wire::default(), Wire::default(), Wire::default());
    let attach = |wire: &Wire, interface| Attachment {
        port: Box::new(wire.port().with_limit(limit)),
        interface,
        receives: true,
    };
    let ports = vec![attach(&clients, CLIENTS), attach(&backends, BACKENDS), attach(&host, InterfaceId::HOST)];
    let engine = Engine::new(ports, pool, world.filter(0), world.tables, world.switcher.lend());
    Bench { world, engine, clients, backends, host }
}

fn departed(wire: &Wire) -> usize {
    std::iter::from_fn(|| wire.departed()).count()
}

fn drops(world: &World) -> u64 {
    world.switcher.head.drops.iter().map(|counter| counter.get()).sum()
}

#[test]
fn arrow_104_106_nothing_received_goes_on_to_the_next_interface() {
    let mut bench = bench(1000);
    bench.backends.arrive(udp(([198, 18, 1, 11], 53), CLIENT).build());
    assert_eq!(bench.engine.turn(1), 1, "the second interface was polled though the first had nothing");
    assert_eq!(bench.engine.turn(1), 0);
    assert_eq!((bench.world.switcher.head.turns.get(), bench.world.switcher.head.idle_turns.get()), (2, 1));
}

#[test]
fn arrow_104_108_112_every_packet_of_a_queue_is_passed_on() {
    let mut bench = bench(1000);
    for port in 0..150 {
        bench.clients.arrive(tcp((CLIENT.0, 1000 + port), SERVICE, SYN).build());
    }
    let received: Vec<usize> = (0..4).map(|_| bench.engine.turn(1)).collect();
    assert_eq!(received, [64, 64, 22, 0]);
    assert_eq!((departed(&bench.backends), departed(&bench.clients)), (150, 0));
}

#[test]
fn arrow_224_reply_goes_back_by_the_port_it_came_from() {
    let mut bench = bench(1000);
    bench.clients.arrive(tcp(CLIENT, SERVICE, ACK).build());
    bench.engine.turn(1);
    assert_eq!((departed(&bench.clients), departed(&bench.backends)), (1, 0));
}

#[test]
fn packets_to_and_from_the_host_go_by_its_port() {
    let mut bench = bench(1000);
    bench.world.neighbour(CLIENTS, CLIENT.0, [2, 0, 0, 0, 0xc1, 1]);
    bench.clients.arrive(tcp(CLIENT, (HOST, 22), SYN).build());
    let answer = tcp((HOST, 22), CLIENT, SYN | ACK).to_mac(ethernet::HOST_PORT);
    bench.host.arrive(answer.build());
    bench.engine.turn(1);
    assert_eq!((departed(&bench.host), departed(&bench.clients), departed(&bench.backends)), (1, 1, 0));
    let counted = |id: InterfaceId| {
        let counters = &bench.world.switcher.interfaces[usize::from(id.0)];
        (counters.received.get(), counters.sent.get())
    };
    assert_eq!((counted(CLIENTS), counted(BACKENDS)), ((1, 1), (0, 0)));
}

#[test]
fn a_packet_of_the_host_waits_until_its_neighbour_is_known_or_its_time_is_over() {
    let mut bench = bench(1000);
    for last in [2, 3] {
        bench.host.arrive(icmp_echo(HOST, [198, 18, 0, last]).to_mac(ethernet::HOST_PORT).build());
    }
    bench.engine.turn(1);
    assert_eq!((departed(&bench.clients), drops(&bench.world)), (0, 0));
    bench.world.neighbour(CLIENTS, CLIENT.0, [2, 0, 0, 0, 0xc1, 1]);
    bench.engine.turn(100);
    assert_eq!((departed(&bench.clients), drops(&bench.world)), (1, 0));
    bench.engine.turn(10_000);
    assert_eq!(bench.world.switcher.head.drops[DropReason::Unresolved as usize].get(), 1);
    assert_eq!(bench.engine.egress.pool.free(), FRAMES);
}

/// As a mode with an outer header does it.
#[test]
fn a_header_pushed_before_a_frame_leaves_with_it() {
    const OUTER: [u8; 20] = *b"an outer IPv4 header";
    let mut bench = bench(1000);
    let sent = tcp(CLIENT, SERVICE, SYN).build();
    let Engine { egress, filter, .. } = &mut bench.engine;
    let frame = egress.pool.copy_in(&sent).expect("a free frame");
    let mut metadata = filter.parse(egress.pool.bytes(&frame), CLIENTS, false);
    filter.prefetch(&mut metadata);
    let (frame, verdict) = egress.pool.change(frame, |buffer| {
        let verdict = filter.decide(buffer, &metadata, CLIENTS, 1);
        let Verdict::Forward(to, length) = verdict else { panic!("{verdict:?}") };
        buffer.push(OUTER.len()).expect("head room").copy_from_slice(&OUTER);
        Verdict::Forward(to, length + OUTER.len())
    });
    assert!(egress.apply_verdict(verdict, frame, 0).is_none());
    let with_header = bench.backends.departed().expect("the frame");
    bench.clients.arrive(sent);
    bench.engine.turn(1);
    let without = bench.backends.departed().expect("the same packet, once more");
    assert_eq!(with_header, [&OUTER[..], &without[..]].concat());
    assert_eq!(bench.engine.egress.pool.free(), FRAMES);
}

#[test]
fn a_new_configuration_is_followed_and_acknowledged() {
    let mut bench = bench(1000);
    bench.engine.turn(1);
    let head = bench.world.control.head;
    let in_use = &bench.world.switcher.head.in_use;
    assert_eq!(in_use.load(shunt_shmlayout::sync::Ordering::Relaxed), Active::NONE.next().0);
    let next = flip::publish(&head.active); // the other buffer, empty
    bench.clients.arrive(tcp(CLIENT, SERVICE, SYN).build());
    bench.engine.turn(2);
    assert_eq!(in_use.load(shunt_shmlayout::sync::Ordering::Relaxed), next.0);
    assert_eq!(bench.world.switcher.head.drops[DropReason::NotOurs as usize].get(), 1);
}

#[test]
fn losses_add_to_what_a_predecessor_counted() {
    let mut bench = bench(1000);
    bench.world.switcher.interfaces[0].missed.set(40); // of the process before this one
    for port in 0..2 * FRAMES as u16 {
        bench.clients.arrive(tcp((CLIENT.0, 1000 + port), SERVICE, SYN).build());
    }
    bench.engine.turn(1);
    let held: Vec<_> = std::iter::from_fn(|| bench.engine.egress.pool.take()).collect();
    bench.engine.turn(1); // finds no frame for what comes
    held.into_iter().for_each(|frame| bench.engine.egress.pool.give(frame));
    let missed = |bench: &Bench| bench.world.switcher.interfaces[0].missed.get();
    bench.engine.turn(2000);
    let counted = missed(&bench);
    assert!(counted > 40);
    bench.engine.turn(4000);
    assert_eq!(missed(&bench), counted);
}

/// A port that lost packets, and whose switcher is killed before it commits them.
struct Killed;

impl Port for Killed {
    fn receive(&mut self, _: &mut Pool, _: &mut Batch) {}

    fn send(&mut self, _: &mut Pool, frame: Frame) -> Result<(), Frame> {
        Err(frame)
    }

    fn flush(&mut self, _: &mut Pool) {}

    fn kernel_has_it(&self) -> bool {
        false
    }

    fn losses(&mut self) -> Losses {
        Losses { ring_full: 3, send_errors: 2, ..Losses::default() }
    }

    fn commit_losses(&mut self) {
        panic!("killed");
    }
}

#[test]
fn losses_are_counted_before_they_are_committed() {
    let mut bench = bench(1000);
    bench.engine.egress.ports[0].port = Box::new(Killed);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| bench.engine.turn(1))).expect_err("killed");
    let counters = &bench.world.switcher.interfaces[usize::from(CLIENTS.0)];
    assert_eq!((counters.missed.get(), counters.errors.get()), (3, 2));
}

#[test]
fn received_is_sent_and_dropped_and_passed_whatever_comes() {
    let mut bench = bench(40);
    let frames = [
        tcp(CLIENT, SERVICE, SYN).build(),
        tcp((CLIENT.0, 2), SERVICE, ACK).build(),
        udp(CLIENT, DNS).payload(b"x").build(),
        udp(CLIENT, (SERVICE.0, 7)).build(),
        udp(([198, 18, 1, 11], 53), CLIENT).build(),
        vec![0; 5],
        tcp(CLIENT, ([198, 18, 0, 1], 22), SYN).build(),
        icmp_echo(CLIENT.0, HOST).build(),
    ];
    let host_frames = [
        icmp_echo(HOST, CLIENT.0).to_mac(ethernet::HOST_PORT).build(),
        tcp((HOST, 9), SERVICE, SYN).to_mac(ethernet::HOST_PORT).build(),
        udp(CLIENT, DNS).to_mac(ethernet::HOST_PORT).build(),
        vec![0; 5],
    ];
    for round in 0..400 {
        bench.clients.arrive(frames[round % frames.len()].clone());
        bench.backends.arrive(frames[(round + 3) % frames.len()].clone());
        bench.host.arrive(host_frames[round % host_frames.len()].clone());
    }
    while bench.engine.turn(1) > 0 {}
    bench.engine.turn(10_000); // the time of those that wait for a next hop is over
    let head = bench.world.switcher.head;
    assert_eq!(head.received.get(), 1200);
    assert_eq!(head.received.get(), head.sent.get() + drops(&bench.world) + head.passed.get());
    let departed = departed(&bench.clients) + departed(&bench.backends) + departed(&bench.host);
    assert_eq!(head.sent.get() as usize, departed);
    assert!(head.drops[DropReason::TransmitFull as usize].get() > 0, "the transmit queues of 40 overflowed");
    assert!(head.drops[DropReason::StoreFull as usize].get() > 0, "and so did the host's");
    assert_eq!(bench.engine.egress.pool.free(), FRAMES, "every frame is back");
}
