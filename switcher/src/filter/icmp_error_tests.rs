//! Packet fixtures of ICMP errors: name, packet in, verdict, packet out.

use super::testing::{B1, BACKENDS, CLIENTS, D1, DNS, DSR, End, SERVICE, U1, World, pass, three_services, through};
use super::tests::{CLIENT, TO_BACKEND, TO_CLIENT, assert_sent};
use super::*;
use shunt_packet::Buffer;
use shunt_packet::tcp::{ACK, SYN};
use shunt_packet::testing::{
    FrameBuilder, are_checksums_right, assert_frame, flow_of, icmp_echo, poke, seal, tcp, udp,
};
use shunt_packet::{PROTOCOL_TCP, ethernet};
use shunt_shmlayout::config_table::BackendRecord;
use shunt_shmlayout::mode::Mode;
use zerocopy::transmute;

const NOBODY: End = ([198, 18, 0, 100], 81);
const HOST: [u8; 4] = [198, 18, 0, 102];
const HOSTS_WEB: End = (HOST, 8080);
const OTHER: End = ([198, 18, 0, 3], 40000);
/// A router on the clients' side, and one on the backends'.
const ROUTER: [u8; 4] = [203, 0, 113, 1];
const INNER_ROUTER: [u8; 4] = [198, 18, 3, 1];
const MTU: u32 = 1400;

fn world() -> World {
    let (mut world, b1) = three_services();
    world.service(HOSTS_WEB, PROTOCOL_TCP, Mode::Nat, &[b1]);
    world.host_address(HOST);
    world
}

/// The Ethernet address of a backend of the world's.
fn mac_of(backend: End) -> [u8; 6] {
    let id = [B1, U1, D1].iter().position(|end| *end == backend).expect("a backend");
    [2, 0, 0, 0, 0xb0, id as u8]
}

/// The world's filter with a connection to each service.
fn connected(world: &World) -> Filter {
    let mut filter = world.filter(0);
    for frame in [tcp(CLIENT, SERVICE, SYN), udp(CLIENT, DNS), tcp(CLIENT, DSR, SYN), tcp(OTHER, HOSTS_WEB, SYN)] {
        through(&mut filter, frame.build(), CLIENTS);
    }
    filter
}

/// "Too big" from somebody to the sender of a packet, quoting so much of it.
fn too_big(from: [u8; 4], cause: &FrameBuilder, quoted: usize) -> FrameBuilder {
    let cause = cause.build();
    let sender = flow_of(&cause).source.v4().expect("IPv4");
    icmp_echo(from, sender).icmp(3, 4).sequence(MTU).payload(&cause[14..][..quoted.min(cause.len() - 14)])
}

/// A packet that Shunt sent somebody.
fn sent(from: End, to: End) -> FrameBuilder {
    let packet = if from == DNS || to == DNS || to == U1 || from == U1 {
        udp(from, to)
    } else {
        tcp(from, to, ACK).sequence(77)
    };
    packet.payload(b"payload").ttl(61)
}

/// When connections were last seen, and how far they are.
fn activities(world: &World) -> Vec<Activity> {
    world.connections.table().expect("a whole table").live().map(|(_, activity, _)| activity).collect()
}

#[test]
fn row_72_an_error_about_what_a_client_was_sent_goes_to_the_backend_both_headers_translated() {
    let world = world();
    let mut filter = connected(&world);
    for (service, backend, client) in [(SERVICE, B1, CLIENT), (DNS, U1, CLIENT), (HOSTS_WEB, B1, OTHER)] {
        // From 28 bytes (RFC 792) over half a TCP header to the whole packet (RFC 1812 4.3.2.3).
        for quoted in [28, 36, 38, 39, 40, 576] {
            for kind in [3, 11, 12] {
                let error = |cause: FrameBuilder| too_big(ROUTER, &cause, quoted).icmp(kind, 4);
                let out = through(&mut filter, error(sent(service, client)).padding(4).build(), CLIENTS);
                // As if the router had seen the backend's own packet.
                assert_sent(out, TO_BACKEND, error(sent(backend, client)).ttl(63), mac_of(backend));
            }
        }
    }
}

#[test]
fn row_72_an_error_about_what_a_backend_was_sent_goes_to_the_client_both_headers_translated() {
    let world = world();
    let mut filter = connected(&world);
    world.neighbour(CLIENTS, CLIENT.0, [2, 0, 0, 0, 0xc1, 1]);
    for (service, backend) in [(SERVICE, B1), (DNS, U1)] {
        // The backend speaks as the service; a router in between keeps its name.
        for (from, shown) in [(backend.0, service.0), (INNER_ROUTER, INNER_ROUTER)] {
            for quoted in [28, 38, 576] {
                let frame = too_big(from, &sent(CLIENT, backend), quoted).icmp(3, 3).build();
                let expected = too_big(shown, &sent(CLIENT, service), quoted).icmp(3, 3).ttl(63);
                assert_sent(through(&mut filter, frame, BACKENDS), TO_CLIENT, expected, [2, 0, 0, 0, 0xc1, 1]);
            }
        }
    }
}

#[test]
fn row_72_a_dsr_backend_gets_the_error_as_it_is() {
    let mut filter = connected(&world());
    let error = too_big(ROUTER, &sent(DSR, CLIENT), 576).ttl(1);
    assert_sent(through(&mut filter, error.build(), CLIENTS), TO_BACKEND, error, mac_of(D1));
}

#[test]
fn row_72_options_and_a_quote_without_udp_checksum_are_kept() {
    let mut filter = connected(&world());
    let error = |from| too_big(ROUTER, &udp(from, CLIENT).ip_options(&[1; 8]).without_checksum(), 576);
    let out = through(&mut filter, error(DNS).ip_options(&[1; 4]).build(), CLIENTS);
    assert_sent(out, TO_BACKEND, error(U1).ip_options(&[1; 4]).ttl(63), mac_of(U1));
}

#[test]
fn row_72_an_error_keeps_the_connection_s_state_and_time() {
    let world = world();
    let mut filter = connected(&world);
    let before = activities(&world);
    let send = |filter: &mut Filter, frame: FrameBuilder, from| pass(filter, &mut frame.build(), from, 100_000);
    let there = send(&mut filter, too_big(ROUTER, &sent(SERVICE, CLIENT), 28), CLIENTS);
    let back = send(&mut filter, too_big(B1.0, &sent(CLIENT, B1), 28).icmp(3, 3), BACKENDS);
    assert!(matches!((there, back), (Verdict::Forward(BACKENDS, _), Verdict::Forward(CLIENTS, _))));
    assert_eq!(activities(&world), before);
}

#[test]
fn row_69_an_inner_packet_that_is_cut_or_broken() {
    let mut filter = connected(&world());
    let cause = || sent(SERVICE, CLIENT);
    for quoted in 0..28 {
        let (verdict, _) = through(&mut filter, too_big(ROUTER, &cause(), quoted).build(), CLIENTS);
        assert_eq!(verdict, Verdict::Drop(DropReason::IcmpInner), "{quoted} bytes quoted");
    }
    // The quoted time to live without its checksum: about a connection, and about none.
    for cause in [cause(), sent(SERVICE, ([198, 18, 0, 9], 9))] {
        let mut frame = poke(too_big(ROUTER, &cause, 40).build(), 14 + 28 + 8, &[1]);
        seal(&mut frame);
        assert_eq!(through(&mut filter, frame, CLIENTS).0, Verdict::Drop(DropReason::IcmpInner));
    }
}

#[test]
fn row_70_an_error_about_no_connection() {
    let mut filter = connected(&world());
    let mut drops = |frame: Vec<u8>, from| {
        assert_eq!(through(&mut filter, frame, from).0, Verdict::Drop(DropReason::IcmpNoMatch));
    };
    let stranger = ([198, 18, 0, 9], 9);
    drops(too_big(ROUTER, &sent(SERVICE, stranger), 28).build(), CLIENTS);
    drops(too_big(ROUTER, &sent((SERVICE.0, 9), CLIENT), 28).build(), CLIENTS);
    drops(too_big(ROUTER, &udp(SERVICE, CLIENT), 28).build(), CLIENTS);
    drops(too_big(ROUTER, &icmp_echo(SERVICE.0, CLIENT.0), 28).build(), CLIENTS);
    drops(too_big(B1.0, &sent(stranger, B1), 28).build(), BACKENDS);
    // It would go to somebody else than the sender of the packet.
    let quote = &sent(DSR, CLIENT).build()[14..42];
    drops(icmp_echo(ROUTER, SERVICE.0).icmp(3, 4).sequence(MTU).payload(quote).build(), CLIENTS);
}

#[test]
fn row_73_too_big_for_less_than_any_link() {
    let mut filter = connected(&world());
    let mut verdict = |mtu, code| {
        let error = too_big(ROUTER, &sent(SERVICE, CLIENT), 28).icmp(3, code).sequence(mtu);
        through(&mut filter, error.build(), CLIENTS).0
    };
    for mtu in [0, 67] {
        assert_eq!(verdict(mtu, 4), Verdict::Drop(DropReason::PtbSmall));
        assert!(matches!(verdict(mtu, 1), Verdict::Forward(BACKENDS, _)), "no MTU is named");
    }
    assert!(matches!(verdict(68, 4), Verdict::Forward(BACKENDS, _)));
}

#[test]
fn row_74_source_quench() {
    let mut filter = connected(&world());
    let error = too_big(ROUTER, &sent(SERVICE, CLIENT), 28).icmp(4, 0).build();
    assert_eq!(through(&mut filter, error, CLIENTS).0, Verdict::Drop(DropReason::IcmpQuench));
}

#[test]
fn row_75_redirect() {
    let mut filter = connected(&world());
    let error = too_big(ROUTER, &sent(SERVICE, CLIENT), 28).icmp(5, 1).build();
    assert_eq!(through(&mut filter, error, CLIENTS).0, Verdict::Drop(DropReason::IcmpRedirect));
}

#[test]
fn row_79_an_error_is_never_answered() {
    let mut filter = connected(&world());
    for (service, verdict) in [(SERVICE, DropReason::TtlExceeded), (NOBODY, DropReason::IcmpNoMatch)] {
        let error = too_big(ROUTER, &sent(service, CLIENT), 28).ttl(1).build();
        assert_eq!(through(&mut filter, error, CLIENTS).0, Verdict::Drop(verdict));
    }
    let error = too_big(B1.0, &sent(CLIENT, B1), 28).ttl(1).build();
    assert_eq!(through(&mut filter, error, BACKENDS).0, Verdict::Drop(DropReason::TtlExceeded));
}

#[test]
fn row_34_a_service_address_sends_no_errors() {
    let mut filter = connected(&world());
    let error = too_big(DSR.0, &sent(SERVICE, CLIENT), 28).build();
    assert_eq!(through(&mut filter, error, CLIENTS).0, Verdict::Drop(DropReason::SpoofedService));
}

#[test]
fn the_host_as_a_client_gets_and_gives_errors() {
    let world = world();
    let mut filter = world.filter(0);
    let client = (HOST, 50000);
    let from_host = |packet: FrameBuilder| packet.to_mac(ethernet::HOST_PORT).from_mac(ethernet::HOST).build();
    through(&mut filter, from_host(udp(client, DNS)), InterfaceId::HOST);
    let (verdict, out) = through(&mut filter, too_big(U1.0, &sent(client, U1), 36).build(), BACKENDS);
    // The host gets the packet without its Ethernet header.
    let expected = too_big(DNS.0, &udp(client, DNS).payload(b"payload").ttl(61), 36).ttl(63).build();
    assert_frame(&out, &expected, "to the host");
    assert_eq!(verdict, Verdict::ToHost(expected.len()));
    let error = from_host(too_big(HOST, &sent(DNS, client), 36));
    assert!(matches!(through(&mut filter, error, InterfaceId::HOST).0, Verdict::Forward(BACKENDS, _)));
    // About a connection of its own that doesn't pass Shunt.
    let error = too_big(B1.0, &sent((HOST, 50001), B1), 28).build();
    assert_eq!(through(&mut filter, error.clone(), BACKENDS), (Verdict::ToHost(error.len()), error));
}

#[test]
fn errors_about_no_connection_are_left_to_a_kernel_that_has_them_too() {
    let mut filter = connected(&world());
    let mut decide = |mut frame: Vec<u8>| {
        let mut metadata = filter.parse(&frame, BACKENDS, true);
        filter.prefetch(&mut metadata);
        filter.decide(&mut Buffer::from(&mut frame[..]), &metadata, BACKENDS, 1000)
    };
    let box_s_own = ([198, 18, 1, 1], 50000);
    assert_eq!(decide(too_big(B1.0, &sent(box_s_own, B1), 28).build()), Verdict::NotOurs, "a health check");
    assert_eq!(decide(too_big(B1.0, &sent(CLIENT, (B1.0, 22)), 28).build()), Verdict::NotOurs, "a bystander");
    assert_eq!(decide(icmp_echo(B1.0, CLIENT.0).build()), Verdict::NotOurs);
    assert!(matches!(decide(too_big(B1.0, &sent(CLIENT, B1), 28).build()), Verdict::Forward(CLIENTS, _)));
}

#[test]
fn next_hops_unknown_are_dropped_by_name() {
    let world = world();
    let mut filter = connected(&world);
    let record = &world.generation().backends[0];
    record.store(&BackendRecord { neighbour: u32::MAX, ..record.load() });
    let error = too_big(ROUTER, &sent(SERVICE, CLIENT), 28).build();
    assert_eq!(through(&mut filter, error, CLIENTS).0, Verdict::Drop(DropReason::NoRoute));
}

proptest::proptest! {
    /// Whatever an error quotes, from whatever side: a verdict, and right checksums in what is sent.
    #[test]
    fn any_quote_gets_a_verdict(
        noise in proptest::collection::vec(proptest::num::u8::ANY, 0..60), keep in 0usize..60, kind in 0u8..16, code in 0u8..16,
        change in proptest::option::of((0usize..48, proptest::num::u8::ANY)), mtu in proptest::num::u32::ANY,
    ) {
        let mut filter = connected(&world());
        let ends = [(SERVICE, CLIENT, CLIENTS), (DNS, CLIENT, CLIENTS), (DSR, CLIENT, CLIENTS), (CLIENT, B1, BACKENDS), (CLIENT, U1, BACKENDS)];
        for (from, to, side) in ends {
            let mut quote = sent(from, to).build()[14..].to_vec();
            quote.truncate(keep);
            quote.extend(&noise);
            if let Some((at, byte)) = change && let Some(changed) = quote.get_mut(at) {
                *changed = byte;
            }
            let error = icmp_echo(ROUTER, from.0).icmp(kind, code).sequence(mtu).payload(&quote);
            let (verdict, out) = through(&mut filter, error.build(), side);
            if let Verdict::Forward(..) = verdict {
                proptest::prop_assert!(are_checksums_right(&out));
                proptest::prop_assert!(matches!(kind, 3 | 11 | 12));
                proptest::prop_assert_eq!(out.len(), error.build().len());
            }
        }
    }

    /// Whatever stands in the shared records, an error gets a verdict and the process lives.
    #[test]
    fn any_table_contents_give_a_verdict(noise in proptest::collection::vec(proptest::num::u64::ANY, 16)) {
        let world = world();
        let mut filter = connected(&world);
        let tables = world.generation();
        tables.services[0].store(&transmute!(<[u64; 8]>::try_from(&noise[..8]).expect("eight")));
        tables.backends[0].store(&transmute!(<[u64; 4]>::try_from(&noise[8..12]).expect("four")));
        tables.fib[1].store(&transmute!(<[u64; 4]>::try_from(&noise[12..]).expect("four")));
        through(&mut filter, too_big(ROUTER, &sent(SERVICE, CLIENT), 40).build(), CLIENTS);
        through(&mut filter, too_big(B1.0, &sent(CLIENT, B1), 40).build(), BACKENDS);
    }
}
