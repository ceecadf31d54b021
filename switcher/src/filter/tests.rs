//! Packet fixtures, one for each arrow of the patent's Fig. 6: name, packet in, verdict, packet out.

use super::testing::{B1, BACKENDS, CLIENTS, DNS, DSR, End, SERVICE, U1, World, pass, three_services, through};
use super::*;
use proptest::prelude::*;
use shunt_packet::Buffer;
use shunt_packet::tcp::{ACK, FIN, PSH, RST, SYN};
use shunt_packet::testing::{
    FrameBuilder, LOCAL_MAC, PEER_MAC, arp_reply, arp_request, assert_frame, icmp_echo, poke, seal, tcp, udp,
};
use shunt_packet::{PROTOCOL_TCP, PROTOCOL_UDP};
use shunt_shmlayout::config_table::{BackendRecord, ServiceRecord};
use shunt_shmlayout::mode::Mode;
use shunt_shmlayout::record::Counter;
use zerocopy::transmute;

const NOBODY: End = ([198, 18, 0, 100], 81);
const NOBODY_UDP: End = ([198, 18, 0, 100], 82);
pub(super) const CLIENT: End = ([198, 18, 0, 2], 40000);
pub(super) const B1_MAC: [u8; 6] = [2, 0, 0, 0, 0xb0, 0];
const U1_MAC: [u8; 6] = [2, 0, 0, 0, 0xb0, 1];
const D1_MAC: [u8; 6] = [2, 0, 0, 0, 0xb0, 2];
pub(super) const TO_BACKEND: fn(usize) -> Verdict = |length| Verdict::Forward(BACKENDS, length);
pub(super) const TO_CLIENT: fn(usize) -> Verdict = |length| Verdict::Forward(CLIENTS, length);

/// Three services with a backend each, and two without.
fn world() -> World {
    let (mut world, _) = three_services();
    world.service(NOBODY, PROTOCOL_TCP, Mode::Nat, &[]);
    world.service(NOBODY_UDP, PROTOCOL_UDP, Mode::Nat, &[]);
    world
}

fn from_client(filter: &mut Filter, flags: u8) -> (Verdict, Vec<u8>) {
    through(filter, tcp(CLIENT, SERVICE, flags).payload(b"hello").build(), CLIENTS)
}

/// Compares verdict and frame, both whole: the packet as described, sent from an interface of Shunt's to `next_hop`.
#[track_caller]
pub(super) fn assert_sent(
    (verdict, out): (Verdict, Vec<u8>),
    kind: fn(usize) -> Verdict,
    packet: FrameBuilder,
    next_hop: [u8; 6],
) {
    let expected = packet.from_mac(LOCAL_MAC).to_mac(next_hop).build();
    assert_frame(&out, &expected, format_args!("{verdict:?}"));
    assert_eq!(verdict, kind(expected.len()));
}

/// Compares what went to the backend of mode `nat`: one hop further than it came.
#[track_caller]
fn assert_forwarded(sent: (Verdict, Vec<u8>), packet: FrameBuilder, backend: [u8; 6]) {
    assert_sent(sent, TO_BACKEND, packet.ttl(63), backend);
}

/// Compares what went to a client.
#[track_caller]
fn assert_returned(sent: (Verdict, Vec<u8>), packet: FrameBuilder, client: [u8; 6]) {
    assert_sent(sent, TO_CLIENT, packet.ttl(63), client);
}

/// Compares an answer to whoever sent the cause.
#[track_caller]
fn assert_answered(sent: (Verdict, Vec<u8>), packet: FrameBuilder) {
    assert_sent(sent, Verdict::Reply, packet, PEER_MAC);
}

fn drops(world: &World) -> u64 {
    world.switcher.head.drops.iter().map(|counter| counter.get()).sum()
}

#[test]
fn arrow_206_208_not_a_service_tcp_gets_a_reset() {
    let mut filter = world().filter(0);
    let closed = (SERVICE.0, 9);
    let sent = through(&mut filter, tcp(CLIENT, closed, SYN).sequence(7).build(), CLIENTS);
    assert_answered(sent, tcp(closed, CLIENT, RST | ACK).acknowledgement(8));
}

#[test]
fn every_refusal_counts_under_its_reason_whether_answered_or_dropped() {
    let world = world();
    let mut filter = world.filter(0);
    let closed = (SERVICE.0, 9);
    let long = |frame: FrameBuilder| frame.payload(&[7; 40]).ttl(1).build();
    let cases = [
        (DropReason::NoService, tcp(CLIENT, closed, SYN).build(), udp(CLIENT, closed).build()),
        (DropReason::NoBackend, tcp(CLIENT, NOBODY, SYN).build(), udp(CLIENT, NOBODY_UDP).build()),
        (DropReason::NoConnection, tcp(CLIENT, SERVICE, ACK).build(), tcp(CLIENT, SERVICE, RST).build()),
        (DropReason::TtlExceeded, long(tcp(CLIENT, SERVICE, SYN)), tcp(CLIENT, SERVICE, SYN).ttl(1).build()),
    ];
    let refused = |reason: DropReason| world.switcher.head.refused[reason as usize].get();
    for (reason, answered, dropped) in cases {
        let (verdict, _) = through(&mut filter, answered.clone(), CLIENTS);
        assert!(matches!(verdict, Verdict::Reply(_)), "{reason:?}");
        assert_eq!((refused(reason), through(&mut filter, dropped, CLIENTS).0), (1, Verdict::Drop(reason)));
        let limited = (0..2000).find_map(|_| match through(&mut filter, answered.clone(), CLIENTS).0 {
            Verdict::Reply(_) => None,
            other => Some(other),
        });
        assert_eq!(limited, Some(Verdict::Drop(reason)), "over the limit");
        filter.limiter = Limiter::default();
    }
    assert_eq!(world.switcher.head.unanswered.get(), 4);
    let answers: u64 = world.switcher.head.refused.iter().map(Counter::get).sum();
    assert_eq!(answers, world.switcher.head.answered.get());
}

#[test]
fn arrow_206_208_not_a_service_udp_is_dropped() {
    let mut filter = world().filter(0);
    let (verdict, _) = through(&mut filter, udp(CLIENT, (SERVICE.0, 9)).build(), CLIENTS);
    assert_eq!(verdict, Verdict::Drop(DropReason::NoService));
}

#[test]
fn arrow_206_208_a_protocol_that_no_service_uses_is_dropped_as_such() {
    const SCTP: u8 = 132;
    let mut frame = poke(udp(CLIENT, (SERVICE.0, 9)).build(), 14 + 9, &[SCTP]);
    seal(&mut frame);
    assert_eq!(through(&mut world().filter(0), frame, CLIENTS).0, Verdict::Drop(DropReason::Protocol));
}

#[test]
fn arrow_210_214_216_218_224_new_connection_is_recorded_and_forwarded() {
    let world = world();
    let mut filter = world.filter(0);
    assert_forwarded(from_client(&mut filter, SYN), tcp(CLIENT, B1, SYN).payload(b"hello"), B1_MAC);
    let table = world.connections.table().unwrap();
    let states: Vec<State> = table.live().map(|(_, activity, _)| activity.state).collect();
    assert_eq!(states, [State::Opening]);
    assert_eq!(world.switcher.backends[0].opened.get(), 1);
}

#[test]
fn arrow_212_220_224_existing_connection_keeps_its_backend_when_the_table_changes() {
    let mut world = world();
    let mut filter = world.filter(0);
    from_client(&mut filter, SYN);
    let other = world.backend(([198, 18, 1, 99], 8080), PROTOCOL_TCP);
    world.generation().slots[..1021].iter().for_each(|s| s.store(other.0, shunt_shmlayout::sync::Ordering::Relaxed));
    for flags in [ACK, ACK | PSH, SYN, FIN | ACK] {
        assert_forwarded(from_client(&mut filter, flags), tcp(CLIENT, B1, flags).payload(b"hello"), B1_MAC);
    }
}

#[test]
fn arrow_212_208_neither_new_nor_existing_tcp_gets_a_reset() {
    let mut filter = world().filter(0);
    let sent = through(&mut filter, tcp(CLIENT, SERVICE, ACK).acknowledgement(99).build(), CLIENTS);
    assert_answered(sent, tcp(SERVICE, CLIENT, RST).sequence(99));
}

#[test]
fn arrow_212_208_neither_new_nor_existing_udp_reply_is_dropped() {
    let mut filter = world().filter(0);
    let (verdict, _) = through(&mut filter, udp(U1, CLIENT).build(), BACKENDS);
    assert_eq!(verdict, Verdict::Drop(DropReason::NoConnection));
}

#[test]
fn a_reset_is_never_answered() {
    let mut filter = world().filter(0);
    let (verdict, _) = through(&mut filter, tcp(CLIENT, SERVICE, RST).build(), CLIENTS);
    assert_eq!(verdict, Verdict::Drop(DropReason::NoConnection));
}

#[test]
fn the_reply_comes_from_the_service_and_goes_where_the_client_is() {
    let world = world();
    let mut filter = world.filter(0);
    from_client(&mut filter, SYN);
    let reply = |from| tcp(from, CLIENT, SYN | ACK).sequence(5).acknowledgement(6).tcp_options(&[2, 4, 5, 0xb4]);
    let sent = through(&mut filter, reply(B1).build(), BACKENDS);
    // Not resolved yet: where the client's packet came from.
    assert_returned(sent, reply(SERVICE), PEER_MAC);
    let wanted: shunt_shmlayout::regions::ResolveRequest =
        world.switcher.resolve_requests.consumer().pop().expect("control is asked");
    assert_eq!(wanted.address, Address::from_v4(CLIENT.0));
    world.neighbour(CLIENTS, CLIENT.0, [2, 0, 0, 0, 0xc1, 1]);
    assert_returned(through(&mut filter, reply(B1).build(), BACKENDS), reply(SERVICE), [2, 0, 0, 0, 0xc1, 1]);
}

#[test]
fn any_switcher_forwards_what_another_recorded() {
    let world = world();
    let (mut zero, mut one) = (world.filter(0), world.filter(1));
    from_client(&mut zero, SYN);
    let sent = through(&mut one, tcp(B1, CLIENT, SYN | ACK).build(), BACKENDS);
    assert_returned(sent, tcp(SERVICE, CLIENT, SYN | ACK), PEER_MAC);
    assert_forwarded(from_client(&mut one, ACK), tcp(CLIENT, B1, ACK).payload(b"hello"), B1_MAC);
}

#[test]
fn dsr_rewrites_nothing_but_the_ethernet_addresses() {
    let mut filter = world().filter(0);
    let packet = || tcp(CLIENT, DSR, SYN).ip_options(&[1; 4]).tcp_options(&[1; 8]).ttl(1).payload(b"early");
    assert_sent(through(&mut filter, packet().build(), CLIENTS), TO_BACKEND, packet(), D1_MAC);
}

#[test]
fn udp_both_ways_and_its_zero_checksum_stays_zero() {
    let mut filter = world().filter(0);
    let query = |to| udp(CLIENT, to).without_checksum().payload(b"q");
    assert_forwarded(through(&mut filter, query(DNS).build(), CLIENTS), query(U1), U1_MAC);
    let answer = |from| udp(from, CLIENT).payload(b"a");
    assert_returned(through(&mut filter, answer(U1).build(), BACKENDS), answer(DNS), PEER_MAC);
}

#[test]
fn a_service_without_backends_refuses_and_counts() {
    let world = world();
    let sent = through(&mut world.filter(0), tcp(CLIENT, NOBODY, SYN).build(), CLIENTS);
    assert_answered(sent, tcp(NOBODY, CLIENT, RST | ACK).acknowledgement(1));
    assert_eq!(world.switcher.services[3].refused.get(), 1);
}

fn noticed(world: &World, notice: Notice) -> u64 {
    world.switcher.head.notices[notice as usize].get()
}

#[test]
fn a_backend_that_its_own_service_chose_is_refused() {
    let world = world();
    let mut filter = world.filter(0);
    let itself = (B1.0, 40000);
    let sent = through(&mut filter, tcp(itself, SERVICE, SYN).build(), BACKENDS);
    assert_answered(sent, tcp(SERVICE, itself, RST | ACK).acknowledgement(1));
    assert_eq!(world.switcher.head.refused[DropReason::BackendToItself as usize].get(), 1);
    let (verdict, _) = through(&mut filter, udp((U1.0, 40000), DNS).build(), BACKENDS);
    assert_eq!(verdict, Verdict::Drop(DropReason::BackendToItself));
    assert_eq!(in_flight(&world), ([0, 0], [0, 0]));
    let (verdict, _) = through(&mut filter, tcp((U1.0, 40000), SERVICE, SYN).build(), BACKENDS);
    assert!(matches!(verdict, Verdict::Forward(BACKENDS, _)), "another one may");
}

#[test]
fn a_nat_client_on_its_backends_link_is_noted() {
    let world = world();
    let mut filter = world.filter(0);
    let neighbour = ([198, 18, 1, 77], 40000);
    for (client, to, from, expected) in [
        (CLIENT, SERVICE, CLIENTS, 0),
        (([198, 18, 7, 7], 40000), SERVICE, BACKENDS, 0), // behind a router of that link
        (neighbour, DSR, BACKENDS, 0),
        (neighbour, SERVICE, BACKENDS, 1),
    ] {
        let (verdict, _) = through(&mut filter, tcp(client, to, SYN).build(), from);
        assert!(matches!(verdict, Verdict::Forward(BACKENDS, _)));
        assert_eq!(noticed(&world, Notice::OnLinkClient), expected, "{client:?} to {to:?}");
    }
    through(&mut filter, tcp(neighbour, SERVICE, ACK).build(), BACKENDS);
    assert_eq!(noticed(&world, Notice::OnLinkClient), 1, "once a connection");
}

#[test]
fn row_38_reserved_flag_is_forwarded_and_counted() {
    let world = world();
    let mut filter = world.filter(0);
    let flagged = |packet: FrameBuilder| {
        let mut frame = poke(packet.build(), 14 + 6, &[0x80]);
        seal(&mut frame);
        frame
    };
    let (verdict, out) = through(&mut filter, flagged(tcp(CLIENT, SERVICE, SYN)), CLIENTS);
    let expected = flagged(tcp(CLIENT, B1, SYN).ttl(63).from_mac(LOCAL_MAC).to_mac(B1_MAC));
    assert_frame(&out, &expected, "forwarded with its flag");
    assert_eq!(verdict, TO_BACKEND(expected.len()));
    from_client(&mut filter, ACK);
    assert_eq!(noticed(&world, Notice::ReservedFlag), 1);
}

#[test]
fn what_is_refused_is_not_noted_as_going_on() {
    let (mut world, backend) = three_services();
    world.service(NOBODY, PROTOCOL_TCP, Mode::Nat, &[backend]);
    let mut filter = world.filter(0);
    let mut frame = poke(tcp(CLIENT, SERVICE, ACK).build(), 14 + 6, &[0x80]);
    seal(&mut frame);
    let (verdict, out) = through(&mut filter, frame, CLIENTS);
    assert_eq!(verdict, Verdict::Reply(out.len()), "of no connection");
    assert_eq!(noticed(&world, Notice::ReservedFlag), 0);

    let neighbour = ([198, 18, 1, 77], 40000);
    let verdicts = [SERVICE, NOBODY].map(|to| through(&mut filter, tcp(neighbour, to, SYN).build(), BACKENDS).0);
    assert!(matches!(verdicts[0], Verdict::Forward(BACKENDS, _)));
    assert_eq!(verdicts[1], Verdict::Drop(DropReason::BackendSideTaken), "by its connection to the first service");
    assert_eq!(noticed(&world, Notice::OnLinkClient), 1);
}

#[test]
fn row_9_padding_is_trimmed() {
    let mut filter = world().filter(0);
    let sent = through(&mut filter, tcp(CLIENT, SERVICE, SYN).padding(6).build(), CLIENTS);
    assert_forwarded(sent, tcp(CLIENT, B1, SYN), B1_MAC);
}

#[test]
fn row_31_time_to_live_ends_here_and_is_decremented_else() {
    let mut filter = world().filter(0);
    let (verdict, _) = through(&mut filter, tcp(CLIENT, SERVICE, SYN).ttl(1).build(), CLIENTS);
    assert_eq!(verdict, Verdict::Drop(DropReason::TtlExceeded), "no answer is as short");
    let long = || tcp(CLIENT, SERVICE, SYN).tcp_options(&[1; 20]).ttl(1).build();
    // As much of the cause as leaves the answer no longer than it.
    let quote = &long()[14..46];
    let answer = icmp_echo(SERVICE.0, CLIENT.0).icmp(11, 0).icmp_rest([0; 4]).payload(quote);
    assert_answered(through(&mut filter, long(), CLIENTS), answer);
    let limited = (0..2000).any(|_| through(&mut filter, long(), CLIENTS).0 == Verdict::Drop(DropReason::TtlExceeded));
    assert!(limited, "as every answer");
    let sent = through(&mut filter, tcp(CLIENT, SERVICE, SYN).ttl(9).build(), CLIENTS);
    assert_sent(sent, TO_BACKEND, tcp(CLIENT, B1, SYN).ttl(8), B1_MAC);
}

#[test]
fn row_34_a_service_address_as_source_makes_no_connection() {
    let mut filter = world().filter(0);
    let (verdict, _) = through(&mut filter, tcp(DSR, SERVICE, SYN).build(), CLIENTS);
    assert_eq!(verdict, Verdict::Drop(DropReason::SpoofedService));
}

#[test]
fn row_34_a_backend_s_answer_comes_from_its_side() {
    let world = world();
    let mut filter = world.filter(0);
    assert!(matches!(through(&mut filter, tcp(CLIENT, SERVICE, SYN).build(), CLIENTS).0, Verdict::Forward(..)));
    let answer = || tcp(B1, CLIENT, SYN | ACK).build();
    assert_eq!(through(&mut filter, answer(), CLIENTS).0, Verdict::Drop(DropReason::SpoofedBackend));
    assert!(matches!(through(&mut filter, answer(), BACKENDS).0, Verdict::Forward(..)));
}

#[test]
fn row_76_echo_to_a_service_address_is_answered() {
    let mut filter = world().filter(0);
    let echo = |from, to| icmp_echo(from, to).sequence(9).payload(b"ping");
    let sent = through(&mut filter, echo(CLIENT.0, SERVICE.0).ttl(3).build(), CLIENTS);
    assert_answered(sent, echo(SERVICE.0, CLIENT.0).icmp(0, 0));
}

#[test]
fn row_78_timestamp_and_address_mask_are_not_answered() {
    let mut filter = world().filter(0);
    for kind in [13, 15, 17] {
        let request = icmp_echo(CLIENT.0, SERVICE.0).icmp(kind, 0).payload(&[0; 12]).build();
        assert_eq!(through(&mut filter, request, CLIENTS).0, Verdict::Drop(DropReason::IcmpType), "type {kind}");
    }
}

#[test]
fn row_86_a_syn_with_data_is_forwarded_with_it() {
    let fast_open = |to| tcp(CLIENT, to, SYN).sequence(1).tcp_options(&[34, 4, 0xc0, 0x0c]).payload(b"early");
    let mut filter = world().filter(0);
    assert_forwarded(through(&mut filter, fast_open(SERVICE).build(), CLIENTS), fast_open(B1), B1_MAC);
}

#[test]
fn row_87_a_syn_on_a_live_connection_goes_to_its_backend_and_changes_nothing() {
    let world = world();
    let mut filter = world.filter(0);
    from_client(&mut filter, SYN);
    through(&mut filter, tcp(B1, CLIENT, SYN | ACK).build(), BACKENDS);
    from_client(&mut filter, ACK);
    let states = || world.connections.table().unwrap().live().map(|(_, now, _)| now.state).collect::<Vec<_>>();
    assert_eq!(states(), [State::Established]);
    assert_forwarded(from_client(&mut filter, SYN), tcp(CLIENT, B1, SYN).payload(b"hello"), B1_MAC);
    assert_eq!((states(), world.switcher.backends[0].opened.get()), (vec![State::Established], 1));
}

#[test]
fn row_88_a_reset_is_forwarded_and_shortens_only() {
    let world = world();
    let mut filter = world.filter(0);
    from_client(&mut filter, SYN);
    assert_forwarded(from_client(&mut filter, RST), tcp(CLIENT, B1, RST).payload(b"hello"), B1_MAC);
    assert_eq!(filter.sweep(4096, 1000 + 9_000), 0);
    assert_eq!(filter.sweep(4096, 1000 + 10_001), 1);
    assert_eq!(world.switcher.backends[0].closed.get(), 1);
}

#[test]
fn row_89_without_an_entry_all_but_a_syn_is_answered_with_a_reset() {
    let mut filter = world().filter(0);
    for flags in [ACK, ACK | PSH, FIN | ACK, SYN | ACK] {
        let sent = through(&mut filter, tcp(CLIENT, SERVICE, flags).acknowledgement(5).build(), CLIENTS);
        assert_answered(sent, tcp(SERVICE, CLIENT, RST).sequence(5));
    }
}

#[test]
fn row_94_a_full_table_evicts_the_opening_and_then_refuses() {
    let mut world = World::new(1024);
    let b1 = world.backend(B1, PROTOCOL_TCP);
    world.service(SERVICE, PROTOCOL_TCP, Mode::Nat, &[b1]);
    let mut filter = world.filter(0);
    let mut open = |port: u16, establish: bool| {
        let client = (CLIENT.0, port);
        let first = through(&mut filter, tcp(client, SERVICE, SYN).build(), CLIENTS).0;
        if establish {
            through(&mut filter, tcp(B1, client, SYN | ACK).build(), BACKENDS);
            through(&mut filter, tcp(client, SERVICE, ACK).build(), CLIENTS);
        }
        first
    };
    for port in 1..=1023 {
        open(port, true);
    }
    open(1024, false);
    assert!((0..40).any(|port| matches!(open(2000 + port, true), Verdict::Forward(..))), "the opening one gave way");
    assert!((0..40).all(|port| open(3000 + port, false) == Verdict::Drop(DropReason::TableFull)));
}

#[test]
fn a_backend_s_packet_without_a_connection_is_left_to_a_kernel_that_has_it_too() {
    let mut filter = world().filter(0);
    let mut decide = |kernel_has_it| {
        let mut frame = tcp(B1, CLIENT, ACK).build();
        let mut metadata = filter.parse(&frame, BACKENDS, kernel_has_it);
        filter.prefetch(&mut metadata);
        frame.resize(128, 0);
        filter.decide(&mut Buffer::from(&mut frame[..]), &metadata, BACKENDS, 1000)
    };
    assert_eq!(decide(true), Verdict::NotOurs, "the health check's own connection");
    assert!(matches!(decide(false), Verdict::Reply(_)), "nobody else has it: reset");
}

#[test]
fn a_port_used_again_after_the_end_is_a_new_connection() {
    let world = world();
    let mut filter = world.filter(0);
    from_client(&mut filter, SYN);
    through(&mut filter, tcp(B1, CLIENT, SYN | ACK).build(), BACKENDS);
    from_client(&mut filter, FIN | ACK);
    through(&mut filter, tcp(B1, CLIENT, FIN | ACK).build(), BACKENDS);
    let (verdict, _) = from_client(&mut filter, SYN);
    assert!(matches!(verdict, Verdict::Forward(BACKENDS, _)));
    assert_eq!(world.switcher.backends[0].opened.get(), 2);
    let states: Vec<State> = world.connections.table().unwrap().live().map(|(_, activity, _)| activity.state).collect();
    assert_eq!(states, [State::Opening]);
}

#[test]
fn row_96_idle_connections_expire_by_their_states_time() {
    let mut filter = world().filter(0);
    from_client(&mut filter, SYN);
    assert_eq!((filter.sweep(4096, 241_000), filter.sweep(4096, 241_001)), (0, 1));
    from_client(&mut filter, SYN);
    through(&mut filter, tcp(B1, CLIENT, SYN | ACK).build(), BACKENDS);
    from_client(&mut filter, ACK);
    assert_eq!((filter.sweep(4096, 7_441_000), filter.sweep(4096, 7_441_001)), (0, 1));
}

#[test]
fn row_102_udp_to_no_service_is_dropped() {
    let sent = through(&mut world().filter(0), udp(CLIENT, (SERVICE.0, 9)).build(), CLIENTS);
    assert_eq!(sent.0, Verdict::Drop(DropReason::NoService));
}

#[test]
fn row_103_an_idle_udp_flow_stays_for_two_minutes() {
    let mut filter = world().filter(0);
    through(&mut filter, udp(CLIENT, DNS).build(), CLIENTS);
    through(&mut filter, udp(U1, CLIENT).build(), BACKENDS);
    assert_eq!(filter.sweep(4096, 1000 + 120_000), 0);
    assert_eq!(filter.sweep(4096, 1000 + 10_000_000), 1);
}

#[test]
fn arp_for_a_service_is_answered_on_the_clients_side_only() {
    let mut filter = world().filter(0);
    let request = || arp_request(PEER_MAC, CLIENT.0, SERVICE.0);
    let (verdict, out) = through(&mut filter, request(), CLIENTS);
    assert_frame(&out, &arp_reply(LOCAL_MAC, SERVICE.0, PEER_MAC, CLIENT.0), "to the asker");
    assert_eq!(verdict, Verdict::Reply(out.len()));
    assert_eq!(through(&mut filter, request(), BACKENDS).0, Verdict::NotOurs);
    assert_eq!(through(&mut filter, arp_request(PEER_MAC, CLIENT.0, [198, 18, 0, 1]), CLIENTS).0, Verdict::NotOurs);
}

#[test]
fn bystanders_and_frames_before_the_first_publication_are_not_ours() {
    let world = world();
    let (verdict, out) = through(&mut world.filter(0), tcp(CLIENT, ([198, 18, 0, 1], 22), SYN).build(), CLIENTS);
    assert_eq!((verdict, out), (Verdict::NotOurs, tcp(CLIENT, ([198, 18, 0, 1], 22), SYN).build()));
    // What AF_PACKET copies of a health check at the service's address (dsr).
    let reply = tcp(SERVICE, ([198, 18, 1, 1], 40_000), SYN | ACK).build();
    assert_eq!(through(&mut world.filter(0), reply, BACKENDS).0, Verdict::NotOurs);
    let owner = Owner::adopt(world.connections.table().unwrap(), 0, Default::default());
    let mut fresh = Filter::new(
        owner,
        world.tables.neighbours,
        World::interfaces(),
        world.switcher.lend(),
        Loads::new(&world.switchers.map(|region| region.lend()), world.tables.loads),
    );
    assert_eq!(from_client(&mut fresh, SYN).0, Verdict::NotOurs);
}

#[test]
fn a_malformed_frame_is_ours_to_count_only_when_it_was_for_a_service() {
    let filter = world().filter(0);
    let bad = |to| poke(tcp(CLIENT, to, SYN).build(), 24, &[0xff, 0xff]);
    let subject = |frame: &[u8], kernel_has_it| format!("{:?}", filter.parse(frame, CLIENTS, kernel_has_it).subject);
    assert_eq!(subject(&bad(SERVICE), true), "Malformed(Ip4Checksum)");
    assert_eq!(subject(&bad(([198, 18, 0, 1], 22)), true), "NotOurs");
    assert_eq!(subject(&bad(([198, 18, 0, 1], 22)), false), "Malformed(Ip4Checksum)");
}

#[test]
fn next_hops_unknown_or_unreachable_are_dropped_by_name() {
    let mut world = world();
    let b = world.backend(([198, 18, 1, 50], 80), PROTOCOL_TCP);
    let to = ([198, 18, 0, 103], 80);
    world.service(to, PROTOCOL_TCP, Mode::Nat, &[b]);
    let mut filter = world.filter(0);
    let record = &world.generation().backends[usize::from(b.0)];
    let neighbour = shunt_shmlayout::address::NeighbourId(record.load().neighbour);
    world.control.neighbours.resolve(neighbour, None);
    assert_eq!(through(&mut filter, tcp(CLIENT, to, SYN).build(), CLIENTS).0, Verdict::Drop(DropReason::Unresolved));
    record.store(&BackendRecord { neighbour: u32::MAX, ..record.load() });
    assert_eq!(through(&mut filter, tcp(CLIENT, to, SYN).build(), CLIENTS).0, Verdict::Drop(DropReason::NoRoute));
    assert_eq!(drops(&world), 0, "the engine counts, not the filter");
}

/// Connections in flight to each of the first backends: by the switchers' counts, and by the table.
fn in_flight(world: &World) -> ([i64; 2], [i64; 2]) {
    let counted = |backend: usize| world.switchers.iter().map(|own| own.in_flight[backend].get() as i64).sum();
    let mut found = [0; 2];
    let table = world.connections.table().expect("a whole table");
    for (connection, ..) in table.live().filter(|(_, activity, _)| activity.flags & Activity::ENDED == 0) {
        found[usize::from(connection.backend.0)] += 1;
    }
    ([counted(0), counted(1)], found)
}

#[test]
fn a_connection_is_in_flight_from_its_syn_to_the_first_fin_whoever_sees_it() {
    let world = world();
    let (mut zero, mut one) = (world.filter(0), world.filter(1));
    from_client(&mut zero, SYN);
    from_client(&mut one, SYN);
    assert_eq!(in_flight(&world).0, [1, 0]);
    through(&mut one, tcp(B1, CLIENT, FIN | ACK).build(), BACKENDS);
    assert_eq!((in_flight(&world).0, world.switchers[1].in_flight[0].get() as i64), ([0, 0], -1));
    from_client(&mut zero, FIN | ACK);
    zero.sweep(4096, 1_000_000);
    assert_eq!(in_flight(&world).0, [0, 0]);
    through(&mut zero, udp(CLIENT, DNS).build(), CLIENTS);
    assert_eq!(in_flight(&world).0, [0, 1]);
    zero.sweep(4096, 100_000_000);
    assert_eq!(in_flight(&world).0, [0, 0], "a flow that expired");
}

/// What a connection goes through.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Open,
    Acknowledge,
    Fin,
    BackendFin,
    BackendReset,
    Query,
    Sweep,
    /// A sweep when all of them have been idle for longer than any may be.
    SweepIdle,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        3 => Just(Operation::Open),
        1 => Just(Operation::Acknowledge),
        1 => Just(Operation::Fin),
        1 => Just(Operation::BackendFin),
        1 => Just(Operation::BackendReset),
        1 => Just(Operation::Query),
        1 => Just(Operation::Sweep),
        1 => Just(Operation::SweepIdle),
    ]
}

/// An operation, on the connection from this client port, by this switcher.
#[derive(Clone, Copy, Debug)]
struct Event {
    operation: Operation,
    client_port: u16,
    switcher: usize,
}

fn event() -> impl Strategy<Value = Event> {
    (operation(), 1000u16..1006, 0usize..3).prop_map(|(operation, client_port, switcher)| Event {
        operation,
        client_port,
        switcher,
    })
}

fn happen(filter: &mut Filter, operation: Operation, client: End, now_ms: u64) {
    let mut send = |packet: FrameBuilder, from| {
        pass(filter, &mut packet.build(), from, now_ms);
    };
    match operation {
        Operation::Open => send(tcp(client, SERVICE, SYN), CLIENTS),
        Operation::Acknowledge => send(tcp(client, SERVICE, ACK), CLIENTS),
        Operation::Fin => send(tcp(client, SERVICE, FIN | ACK), CLIENTS),
        Operation::BackendFin => send(tcp(B1, client, FIN | ACK), BACKENDS),
        Operation::BackendReset => send(tcp(B1, client, RST), BACKENDS),
        Operation::Query => send(udp(client, DNS), CLIENTS),
        Operation::Sweep => {
            filter.sweep(4096, now_ms);
        }
        Operation::SweepIdle => {
            filter.sweep(4096, now_ms + 8_000_000);
        }
    }
}

proptest! {
    /// Whatever happens in whatever order, the switchers' counts come to the connections that are in flight.
    #[test]
    fn counts_of_connections_in_flight_balance(events in proptest::collection::vec(event(), 1..200)) {
        let world = world();
        let mut filters = [0, 1, 2].map(|number| world.filter(number));
        for (clock, Event { operation, client_port, switcher }) in (1u64..).zip(events) {
            happen(&mut filters[switcher], operation, (CLIENT.0, client_port), clock * 1000);
            let (counted, found) = in_flight(&world);
            prop_assert_eq!(counted, found);
        }
    }

    /// Whatever stands in the shared records, a frame gets a verdict and the process lives.
    #[test]
    fn any_table_contents_give_a_verdict(noise in proptest::collection::vec(proptest::num::u64::ANY, 24), flags in 0u8..64) {
        let world = world();
        let mut filter = world.filter(0);
        from_client(&mut filter, SYN);
        let tables = world.generation();
        let words = |at: usize| <[u64; 8]>::try_from(&noise[at..at + 8]).unwrap();
        let keep: ServiceRecord = tables.services[0].load();
        tables.services[0].store(&transmute!(words(0)));
        tables.backends[0].store(&transmute!([noise[8], noise[9], noise[10], noise[11]]));
        from_client(&mut filter, flags);
        tables.services[0].store(&ServiceRecord { slots_first: noise[12] as u32, slots_count: noise[13] as u32, ..keep });
        for algorithm in 0..6 {
            tables.members[0].store(&transmute!(noise[20]));
            tables.classes[0].store(&transmute!([0, 0, noise[21], noise[22]]));
            world.control.loads.0[0].store(&transmute!(words(8)));
            world.switchers[1].in_flight[0].set(noise[23]);
            let (members_count, classes_count) = (noise[12] as u32 % 300, noise[13] as u32 % 3);
            tables.services[0].store(&ServiceRecord { algorithm, members_count, classes_count, ..keep });
            through(&mut filter, tcp((CLIENT.0, 41000 + u16::from(algorithm)), SERVICE, SYN).build(), CLIENTS);
        }
        tables.fib[1].store(&transmute!([noise[14], noise[15], noise[16], noise[17]]));
        tables.head.fib.set(noise[18]);
        from_client(&mut filter, flags);
        through(&mut filter, tcp(B1, CLIENT, flags).build(), BACKENDS);
        filter.sweep(8192, noise[19]);
    }

    /// Arbitrary bytes to the service: never a panic, and a verdict of any kind.
    #[test]
    fn any_frame_gets_a_verdict(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..120), cut in 0usize..60) {
        let mut filter = world().filter(0);
        through(&mut filter, bytes.clone(), CLIENTS);
        let mut near = tcp(CLIENT, SERVICE, SYN).build();
        near.truncate(cut);
        near.extend(bytes);
        through(&mut filter, near, CLIENTS);
    }
}
