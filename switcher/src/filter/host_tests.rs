//! Packet fixtures of the pseudo-interface: name, packet in, verdict, packet out, both ways.

use super::testing::{B1, BACKENDS, CLIENTS, World, through};
use super::tests::{B1_MAC, CLIENT, TO_BACKEND, TO_CLIENT, assert_sent};
use super::*;
use shunt_packet::tcp::{ACK, RST, SYN};
use shunt_packet::testing::{
    FrameBuilder, LOCAL_MAC, PEER_MAC, arp_reply, arp_request, assert_frame, icmp_echo, poke, seal, tcp, udp,
};
use shunt_packet::{PROTOCOL_TCP, ethernet};
use shunt_shmlayout::mode::Mode;

const HOST: [u8; 4] = [198, 18, 0, 101];
const SHARED: [u8; 4] = [198, 18, 0, 100];
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0xc1, 1];
const SCTP: u8 = 132;

/// One address shared by a service with a backend (80) and one of the host's (22), one the host's but for port 8080.
fn world() -> World {
    let mut world = World::new(4096);
    let b1 = world.backend(B1, PROTOCOL_TCP);
    world.service((SHARED, 80), PROTOCOL_TCP, Mode::Nat, &[b1]);
    world.service((HOST, 8080), PROTOCOL_TCP, Mode::Nat, &[b1]);
    world.host_service((SHARED, 22), PROTOCOL_TCP);
    world.host_address(HOST);
    world
}

/// A packet as the packet store gives it to the engine.
fn from_host(filter: &mut Filter, packet: FrameBuilder) -> (Verdict, Vec<u8>) {
    through(filter, packet.to_mac(ethernet::HOST_PORT).from_mac(ethernet::HOST).build(), InterfaceId::HOST)
}

/// Compares verdict and frame, both whole: what the host gets keeps the Ethernet header that it came with.
#[track_caller]
fn assert_to_host((verdict, out): (Verdict, Vec<u8>), expected: &[u8], what: &str) {
    assert_frame(&out, expected, what);
    assert_eq!(verdict, Verdict::ToHost(expected.len()), "{what}");
}

/// A part of a datagram: the frame with its fragment field changed.
fn fragment(frame: Vec<u8>, field: u16) -> Vec<u8> {
    let mut frame = poke(frame, 14 + 6, &field.to_be_bytes());
    seal(&mut frame);
    frame
}

/// "Fragmentation needed" about a packet.
fn too_big(from: [u8; 4], to: [u8; 4], about: &FrameBuilder) -> FrameBuilder {
    icmp_error(from, to, &about.build()[14..42])
}

fn icmp_error(from: [u8; 4], to: [u8; 4], quote: &[u8]) -> FrameBuilder {
    icmp_echo(from, to).icmp(3, 4).sequence(1400).payload(quote)
}

#[test]
fn whatever_is_whole_goes_to_the_host_as_it_is() {
    let mut filter = world().filter(0);
    let long = udp(CLIENT, (HOST, 53)).payload(&[7; 64]).build();
    for (name, frame) in [
        ("tcp", tcp(CLIENT, (HOST, 22), SYN).build()),
        ("udp", udp(CLIENT, (HOST, 53)).payload(b"question").build()),
        ("echo", icmp_echo(CLIENT.0, HOST).payload(b"ping").build()),
        ("ttl used up", udp(CLIENT, (HOST, 33434)).ttl(1).build()),
        ("record route", icmp_echo(CLIENT.0, HOST).ip_options(&[7, 7, 4, 0, 0, 0, 0, 0]).build()),
        ("odd tcp flags", tcp(CLIENT, (HOST, 22), SYN | RST).build()),
        ("first fragment", fragment(long.clone(), 0x2000)),
        ("later fragment", fragment(long.clone(), 185)),
        ("tcp fragment at offset 1", fragment(tcp(CLIENT, (HOST, 22), ACK).build(), 1)),
        ("icmp error", too_big([198, 18, 0, 1], HOST, &tcp((HOST, 22), CLIENT, ACK)).build()),
        ("sctp", fragment(poke(long.clone(), 14 + 9, &[SCTP]), 0)),
        ("a source that is a service", tcp((SHARED, 80), (HOST, 5000), SYN | ACK).build()),
    ] {
        assert_to_host(through(&mut filter, frame.clone(), CLIENTS), &frame, name);
    }
    let segment = tcp(CLIENT, (HOST, 22), ACK);
    let sent = through(&mut filter, segment.clone().padding(6).build(), CLIENTS);
    assert_to_host(sent, &segment.build(), "padded");
}

#[test]
fn what_is_not_whole_ipv4_does_not_go_to_the_host() {
    let mut filter = world().filter(0);
    let frame = udp(CLIENT, (HOST, 53)).payload(b"question").build();
    for (frame, reason) in [
        (poke(frame.clone(), 14 + 8, &[1]), DropReason::Ip4Checksum),
        (frame[..frame.len() - 1].to_vec(), DropReason::Ip4Truncated),
        (poke(frame.clone(), 14, &[0x65]), DropReason::Ip4Version),
        (udp((HOST, 1), (HOST, 53)).build(), DropReason::Land),
        (udp(([127, 0, 0, 1], 1), (HOST, 53)).build(), DropReason::Martian),
        (udp(CLIENT, (HOST, 53)).to_mac([2, 9, 9, 9, 9, 9]).build(), DropReason::EthNotUs),
        (udp(CLIENT, (HOST, 53)).to_mac(ethernet::BROADCAST).build(), DropReason::L2Broadcast),
    ] {
        assert_eq!(through(&mut filter, frame, CLIENTS).0, Verdict::Drop(reason));
    }
}

#[test]
fn a_service_at_the_hosts_address_is_the_services() {
    let mut filter = world().filter(0);
    let sent = through(&mut filter, tcp(CLIENT, (HOST, 8080), SYN).build(), CLIENTS);
    assert_sent(sent, TO_BACKEND, tcp(CLIENT, B1, SYN).ttl(63), B1_MAC);
}

#[test]
fn a_shared_address_is_the_hosts_for_its_service_alone() {
    let mut filter = world().filter(0);
    let mut verdict = |packet: FrameBuilder| through(&mut filter, packet.build(), CLIENTS).0;
    assert!(matches!(verdict(tcp(CLIENT, (SHARED, 22), SYN)), Verdict::ToHost(_)));
    assert!(matches!(verdict(tcp(CLIENT, (SHARED, 22), ACK)), Verdict::ToHost(_)));
    assert!(matches!(verdict(tcp(CLIENT, (SHARED, 80), SYN)), Verdict::Forward(BACKENDS, _)));
    assert!(matches!(verdict(tcp(CLIENT, (SHARED, 81), SYN)), Verdict::Reply(_)));
    assert!(matches!(verdict(icmp_echo(CLIENT.0, SHARED)), Verdict::Reply(_)));
    let about = |port| too_big([198, 18, 0, 1], SHARED, &tcp((SHARED, port), CLIENT, ACK).payload(&[0; 8]));
    assert!(matches!(verdict(about(22)), Verdict::ToHost(_)));
    assert!(matches!(verdict(about(80)), Verdict::Forward(BACKENDS, _)), "the connection opened above");
    assert_eq!(verdict(about(81)), Verdict::Drop(DropReason::IcmpNoMatch));
    assert_eq!(verdict(icmp_error(CLIENT.0, SHARED, &[0x45; 9])), Verdict::Drop(DropReason::IcmpInner));
    let part = fragment(udp(CLIENT, (SHARED, 22)).payload(&[7; 64]).build(), 185);
    assert!(matches!(through(&mut filter, part, CLIENTS).0, Verdict::ToHost(_)));
}

#[test]
fn a_backends_packet_to_the_host_is_no_reply() {
    let mut filter = world().filter(0);
    let frame = tcp(B1, (HOST, 5000), SYN | ACK).build();
    assert_to_host(through(&mut filter, frame.clone(), BACKENDS), &frame, "as it came");
}

#[test]
fn arp_for_the_host_is_answered_on_both_sides() {
    let mut filter = world().filter(0);
    let mut ask = |address, from| through(&mut filter, arp_request(PEER_MAC, [198, 18, 0, 9], address), from);
    for side in [CLIENTS, BACKENDS] {
        let (verdict, out) = ask(HOST, side);
        assert_frame(&out, &arp_reply(LOCAL_MAC, HOST, PEER_MAC, [198, 18, 0, 9]), "to the asker");
        assert_eq!(verdict, Verdict::Reply(42));
    }
    assert_eq!(ask(SHARED, CLIENTS).0, Verdict::Reply(42));
    assert_eq!(ask(SHARED, BACKENDS).0, Verdict::NotOurs);
}

#[test]
fn the_host_sends_to_neighbours_and_by_gateways() {
    let world = world();
    let mut filter = world.filter(0);
    let answer = || tcp((HOST, 22), CLIENT, SYN | ACK).ttl(1);
    assert_eq!(from_host(&mut filter, answer()).0, Verdict::Wait(Address::from_v4(CLIENT.0)));
    let wanted: shunt_shmlayout::regions::ResolveRequest =
        world.switcher.resolve_requests.consumer().pop().expect("control is asked");
    assert_eq!((wanted.address, wanted.interface), (Address::from_v4(CLIENT.0), u64::from(CLIENTS.0)));
    world.neighbour(CLIENTS, CLIENT.0, CLIENT_MAC);
    assert_sent(from_host(&mut filter, answer()), TO_CLIENT, answer(), CLIENT_MAC);
    assert_sent(from_host(&mut filter, icmp_echo(HOST, B1.0)), TO_BACKEND, icmp_echo(HOST, B1.0), B1_MAC);
    let part = fragment(udp((HOST, 53), CLIENT).to_mac(ethernet::HOST_PORT).payload(&[7; 64]).build(), 185);
    assert!(matches!(through(&mut filter, part, InterfaceId::HOST).0, Verdict::Forward(CLIENTS, _)));
    for nowhere in [[203, 0, 113, 1], [224, 0, 0, 251], [255; 4]] {
        assert_eq!(from_host(&mut filter, udp((HOST, 53), (nowhere, 9))).0, Verdict::Drop(DropReason::NoRoute));
    }
    let gateway = world.neighbour(CLIENTS, [198, 18, 0, 1], [2, 0, 0, 0, 0, 0x11]);
    world.gateway([198, 18, 2, 0], CLIENTS, gateway);
    let far = || udp((HOST, 53), ([198, 18, 2, 9], 9)).payload(b"far");
    assert_sent(from_host(&mut filter, far()), TO_CLIENT, far(), [2, 0, 0, 0, 0, 0x11]);
}

#[test]
fn the_host_is_a_client_of_services_and_gets_their_replies() {
    let world = world();
    let mut filter = world.filter(0);
    let (client, service) = ((HOST, 50000), (SHARED, 80));
    let sent = from_host(&mut filter, tcp(client, service, SYN));
    assert_sent(sent, TO_BACKEND, tcp(client, B1, SYN).ttl(63), B1_MAC);
    let sent = through(&mut filter, tcp(B1, client, SYN | ACK).build(), BACKENDS);
    assert_to_host(sent, &tcp(service, client, SYN | ACK).ttl(63).build(), "a reply");
    // Whoever else uses the host's address doesn't draw its replies to himself.
    through(&mut filter, tcp(client, service, ACK).build(), CLIENTS);
    assert!(matches!(through(&mut filter, tcp(B1, client, ACK).build(), BACKENDS).0, Verdict::ToHost(_)));
    let spoofed = through(&mut filter, tcp((HOST, 50001), service, SYN).build(), CLIENTS).0;
    assert_eq!(spoofed, Verdict::Drop(DropReason::SpoofedService));
    // A port of nobody's is refused, to the host too.
    let (verdict, out) = from_host(&mut filter, tcp(client, (SHARED, 81), SYN));
    let reset = tcp((SHARED, 81), client, RST | ACK).acknowledgement(1);
    let expected = reset.from_mac(ethernet::HOST_PORT).to_mac(ethernet::HOST).build();
    assert_frame(&out, &expected, "a reset");
    assert_eq!(verdict, Verdict::Reply(expected.len()));
}

#[test]
fn the_host_sends_from_its_own_addresses_and_services_only() {
    let world = world();
    world.neighbour(CLIENTS, CLIENT.0, CLIENT_MAC);
    let mut filter = world.filter(0);
    let about = |port| icmp_error(SHARED, CLIENT.0, &udp(CLIENT, (SHARED, port)).build()[14..42]);
    let about_tcp = |port| icmp_error(SHARED, CLIENT.0, &tcp(CLIENT, (SHARED, port), SYN).build()[14..42]);
    for (packet, is_sent) in [
        (tcp((HOST, 5), CLIENT, SYN), true),
        (icmp_echo(HOST, CLIENT.0), true),
        (tcp((SHARED, 22), CLIENT, ACK), true),
        (tcp((SHARED, 5000), CLIENT, SYN), true),
        (about_tcp(22), true),
        // The kernel's resets and errors about what is the backends'.
        (tcp((SHARED, 80), CLIENT, RST), false),
        (tcp((HOST, 8080), CLIENT, RST), false),
        (about(80), false),
        (about_tcp(80), false),
        (icmp_echo(SHARED, CLIENT.0), false),
        (tcp(([198, 18, 0, 200], 22), CLIENT, ACK), false),
        (tcp((B1.0, 8080), CLIENT, ACK), false),
    ] {
        let (verdict, out) = from_host(&mut filter, packet);
        let expected =
            if is_sent { Verdict::Forward(CLIENTS, out.len()) } else { Verdict::Drop(DropReason::ForeignSource) };
        assert_eq!(verdict, expected);
    }
}

#[test]
fn bad_packets_from_the_host_are_dropped_by_reason() {
    let mut filter = world().filter(0);
    let whole = udp((HOST, 53), CLIENT).to_mac(ethernet::HOST_PORT).from_mac(ethernet::HOST).build();
    for (frame, reason) in [
        (whole[..30].to_vec(), DropReason::Ip4Truncated),
        (poke(whole.clone(), 14, &[0x60]), DropReason::Ip4Version),
        (poke(whole.clone(), 14 + 8, &[1]), DropReason::Ip4Checksum),
        (whole[..14].to_vec(), DropReason::Ip4Truncated),
        (poke(whole.clone(), 12, &[8, 6]), DropReason::EthType),
        (poke(whole.clone(), 12, &[0x86, 0xdd]), DropReason::EthType),
    ] {
        assert_eq!(through(&mut filter, frame, InterfaceId::HOST).0, Verdict::Drop(reason));
    }
    let to_itself = from_host(&mut filter, tcp((HOST, 5), (SHARED, 22), SYN)).0;
    assert_eq!(to_itself, Verdict::NotOurs);
}

proptest::proptest! {
    /// Arbitrary bytes from and to the host: never a panic, and never to somebody from a source that isn't the host's.
    #[test]
    fn any_packet_of_the_host_gets_a_verdict(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80), cut in 0usize..60) {
        let world = world();
        world.neighbour(CLIENTS, CLIENT.0, CLIENT_MAC);
        let mut filter = world.filter(0);
        let icmp = too_big(CLIENT.0, SHARED, &tcp((SHARED, 22), CLIENT, ACK));
        for packet in [tcp(CLIENT, (HOST, 22), SYN), icmp] {
            let mut near = packet.build();
            near.truncate(14 + cut);
            near.extend(&bytes);
            through(&mut filter, near, CLIENTS);
        }
        let mut near = icmp_error(SHARED, CLIENT.0, &bytes).to_mac(ethernet::HOST_PORT).build();
        near.truncate(14 + cut);
        near.extend(&bytes);
        let (verdict, out) = through(&mut filter, near, InterfaceId::HOST);
        if let Verdict::Forward(..) = verdict {
            let source = [out[26], out[27], out[28], out[29]];
            proptest::prop_assert!([HOST, SHARED].contains(&source), "{:?}", source);
        }
    }
}
