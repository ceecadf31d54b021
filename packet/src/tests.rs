//! Properties of the parser as a whole, and the strategies that other tests of this module draw frames from.

use proptest::prelude::*;

use super::testing::{LOCAL_MAC, icmp_echo, tcp, udp};
use super::*;

/// A host's address outside the martian ranges, never the same for both sides.
fn any_endpoint(low_bit: u8) -> impl Strategy<Value = testing::Endpoint> {
    (1..127u8, any::<[u8; 2]>(), any::<u8>(), 1..=u16::MAX)
        .prop_map(move |(a, [b, c], d, port)| ([a, b, c, d & !1 | low_bit], port))
}

/// A good IPv4 frame: TCP, UDP or an echo; with or without options, priority tag, checksum, padding and payload.
pub(super) fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let layers = (0..4u8, 0..2usize, 0..3usize, 0..3usize, 0..20usize);
    let payload = prop::collection::vec(any::<u8>(), 0..64);
    (layers, any_endpoint(0), any_endpoint(1), payload, any::<[u32; 2]>(), 1..=u8::MAX).prop_map(
        |((kind, tags, ip_options, tcp_options, padding), source, destination, payload, numbers, ttl)| {
            let mut builder = match kind {
                0 => tcp(source, destination, tcp::ACK).tcp_options(&[1; 4].repeat(tcp_options)),
                1 => udp(source, destination),
                2 => udp(source, destination).without_checksum(),
                _ => icmp_echo(source.0, destination.0),
            };
            for _ in 0..tags {
                builder = builder.vlan(0);
            }
            builder = builder.sequence(numbers[0]).acknowledgement(numbers[1]).ttl(ttl).payload(&payload);
            builder.ip_options(&[1; 4].repeat(ip_options)).padding(padding).build()
        },
    )
}

/// Parses a frame and does to it all that can be done with what was parsed. Answers whether it was accepted.
fn exercise(frame: &mut [u8]) -> bool {
    match Packet::parse(frame, &LOCAL_MAC) {
        Err(_) => return false,
        Ok(Parsed::Arp(_)) => {
            reply::arp_reply(frame, &LOCAL_MAC);
        }
        Ok(Parsed::Ip(flow)) => {
            assert!(flow.network_offset < flow.transport_offset && flow.transport_offset < flow.end);
            assert!(usize::from(flow.end) <= frame.len());
            assert!(flow.payload_length <= flow.end - flow.transport_offset);
            exercise_flow(frame, &flow);
        }
    }
    true
}

/// Does to a frame all that can be done with a flow, whether or not it is the frame's own.
fn exercise_flow(frame: &mut [u8], flow: &Flow) {
    rewrite::nat_destination(frame, flow, [198, 18, 0, 1], PortBe::new(80));
    rewrite::nat_source(frame, flow, [198, 18, 0, 2], PortBe::new(81));
    rewrite::decrement_ttl(frame, flow);
    rewrite::set_ethernet(frame, &LOCAL_MAC, &LOCAL_MAC);
    quote::nat_source(frame, flow, [198, 18, 0, 3], PortBe::new(82));
    quote::nat_destination(frame, flow, [198, 18, 0, 4], PortBe::new(83));
    let answers = [reply::echo_reply, reply::tcp_reset, reply::time_exceeded].map(|answer| answer(frame, flow));
    for length in answers.into_iter().chain([reply::arp_reply(frame, &LOCAL_MAC)]) {
        assert!(length.is_none_or(|length| length <= frame.len()));
    }
}

#[test]
fn ports_print_as_numbers() {
    assert_eq!(PortBe::new(8080).to_string(), "8080");
    assert_eq!(PortBe::new(0x1234).0, [0x12, 0x34]);
}

#[test]
fn mapped_addresses_are_those_of_the_standard_library() {
    let address = std::net::Ipv4Addr::new(198, 18, 3, 4);
    assert_eq!(Address::from_v4(address.octets()).0, address.to_ipv6_mapped().octets());
    assert_eq!(v4_part(Address::from_v4(address.octets())), address.octets());
}

proptest! {
    #[test]
    fn good_frames_are_accepted(mut frame in any_frame()) {
        prop_assert!(exercise(&mut frame));
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut frame in prop::collection::vec(any::<u8>(), 0..200)) {
        exercise(&mut frame);
    }

    #[test]
    fn arbitrary_bytes_behind_a_good_address_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200), ethertype in prop::sample::select(vec![0x0800u16, 0x0806, 0x8100]),
    ) {
        let mut frame = [&LOCAL_MAC[..], &testing::PEER_MAC, &ethertype.to_be_bytes(), &bytes].concat();
        exercise(&mut frame);
    }

    #[test]
    fn changed_and_cut_frames_never_panic(
        mut frame in any_frame(), changes in prop::collection::vec((0..80usize, any::<u8>()), 0..4), keep in 0..200usize,
    ) {
        for (offset, byte) in changes {
            if let Some(target) = frame.get_mut(offset) {
                *target = byte;
            }
        }
        // Right checksums, so that the change itself is what is judged.
        testing::seal(&mut frame);
        frame.truncate(keep);
        exercise(&mut frame);
    }

    #[test]
    fn a_flow_of_another_frame_never_panics(frame in any_frame(), other in any_frame(), keep in 0..80usize) {
        let mut cut = other[..keep.min(other.len())].to_vec();
        exercise_flow(&mut cut, &testing::flow_of(&frame));
    }
}
