//! Frames of another implementation (Scapy), and what becomes of them by its reckoning, against this crate's. The vectors
//! and the script that makes them are in `vectors/`.

use shunt_packet::testing::assert_frame;
use shunt_packet::{Flow, Packet, Parsed, PortBe, quote, reply, rewrite};

/// Each protocol's file; a file that lacks a case that it had is noticed by the number of comparisons.
const FILES: [(&str, usize, &str); 6] = [
    ("ethernet", 7, include_str!("vectors/ethernet.txt")),
    ("arp", 2, include_str!("vectors/arp.txt")),
    ("ipv4", 13, include_str!("vectors/ipv4.txt")),
    ("tcp", 30, include_str!("vectors/tcp.txt")),
    ("udp", 16, include_str!("vectors/udp.txt")),
    ("icmp", 22, include_str!("vectors/icmp.txt")),
];

/// The Ethernet addresses that forwarded frames of the vectors have.
const NEXT_HOP: [u8; 6] = [2, 0, 0, 0, 0xb0, 0];
const OUT: [u8; 6] = [2, 0, 0, 0, 0, 2];
const LOCAL: [u8; 6] = [2, 0, 0, 0, 0, 1];

#[test]
fn what_becomes_of_foreign_frames_is_what_their_maker_says() {
    for (file, comparisons, text) in FILES {
        let compared: usize = text.split("\n\n").skip(1).map(|case| compare(file, case)).sum();
        assert_eq!(compared, comparisons, "comparisons in vectors/{file}.txt");
    }
}

/// Compares all that a paragraph says; how much that is.
fn compare(file: &str, paragraph: &str) -> usize {
    let mut lines = paragraph.lines().map(|line| line.split_once(' ').expect("a key and a value"));
    let (name, frame) = (lines.next().expect("a name").1, bytes(lines.next().expect("a frame").1));
    let what = |key: &str| format!("{file}: {name}: {key}");
    lines
        .map(|(key, value)| match key {
            "fields" => assert_eq!(written(&flow(&frame)), value, "{}", what(key)),
            _ => {
                let (argument, expected) = value.split_once(' ').unwrap_or(("", value));
                assert_frame(&made(key, argument, frame.clone()), &bytes(expected), what(key));
            }
        })
        .count()
}

/// What an operation makes of a frame.
fn made(operation: &str, argument: &str, mut frame: Vec<u8>) -> Vec<u8> {
    if operation == "arp_reply" {
        let length = reply::arp_reply(&mut frame, &LOCAL).expect("an answer");
        frame.truncate(length);
        return frame;
    }
    let flow = flow(&frame);
    let length = match operation {
        "reset" => reply::tcp_reset(&mut frame, &flow).expect("an answer"),
        "time_exceeded" => reply::time_exceeded(&mut frame, &flow).expect("an answer"),
        "echo_reply" => reply::echo_reply(&mut frame, &flow).expect("an answer"),
        translation => {
            translate(translation, argument, &mut frame, &flow);
            frame.len()
        }
    };
    frame.truncate(length);
    frame
}

fn translate(operation: &str, argument: &str, frame: &mut [u8], flow: &Flow) {
    let (address, port) = endpoint(argument);
    match operation {
        "nat_source" => rewrite::nat_source(frame, flow, address, port),
        "nat_destination" => rewrite::nat_destination(frame, flow, address, port),
        "quote_source" => {
            // The error goes to who sent the quoted packet.
            rewrite::nat_destination(frame, flow, address, PortBe::ZERO);
            return quote::nat_source(frame, flow, address, port);
        }
        "quote_destination" => return quote::nat_destination(frame, flow, address, port),
        unknown => panic!("vectors name an operation {unknown:?}"),
    }
    rewrite::decrement_ttl(frame, flow);
    rewrite::set_ethernet(frame, &NEXT_HOP, &OUT);
}

fn flow(frame: &[u8]) -> Flow {
    match Packet::parse(frame, &LOCAL) {
        Ok(Parsed::Ip(flow)) => flow,
        other => panic!("read as {other:?}"),
    }
}

/// A flow as the vectors write it.
fn written(flow: &Flow) -> String {
    let Flow { source, source_port, destination, destination_port, protocol, ttl, tcp_flags, .. } = flow;
    let v4 = |address: &shunt_packet::Address| std::net::Ipv4Addr::from(address.v4().expect("IPv4"));
    format!(
        "{}:{source_port} {}:{destination_port} protocol {protocol} ttl {ttl} network {} transport {} end {} payload {} flags {tcp_flags:#04x}",
        v4(source),
        v4(destination),
        flow.network_offset,
        flow.transport_offset,
        flow.end,
        flow.payload_length,
    )
}

fn endpoint(text: &str) -> ([u8; 4], PortBe) {
    let endpoint: std::net::SocketAddrV4 = text.parse().expect("an address and a port");
    (endpoint.ip().octets(), PortBe::new(endpoint.port()))
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let (pairs, rest) = hexadecimal.as_bytes().as_chunks::<2>();
    assert!(rest.is_empty(), "an odd number of digits");
    pairs.iter().map(|pair| u8::from_str_radix(str::from_utf8(pair).expect("digits"), 16).expect("digits")).collect()
}
