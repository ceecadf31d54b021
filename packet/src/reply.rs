//! Answers made in the frame that caused them: the verdict `Reply` of Fig. 6.
//!
//! Each function turns the frame round and returns the answer's length, never more than its cause's; `None` where the cause
//! must not be answered, and then the frame is as it was. Limiting the rate of answers is the caller's.

use zerocopy::FromBytes;

use super::checksum::Difference;
use super::rewrite::{headers_mut, set_ttl};
use super::tcp::{ACK, FIN, RST, SYN};
use super::{Flow, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, PortBe, arp, ethernet, icmp, ipv4, quote, tcp, v4_part};

/// Length of a reset from its IP header on.
const RESET_LENGTH: usize = ipv4::HEADER_LENGTH + tcp::HEADER_LENGTH;

/// What an ICMP error has before the packet that it quotes.
const ERROR_LENGTH: usize = ipv4::HEADER_LENGTH + icmp::HEADER_LENGTH;
/// An ICMP error is no longer than this (RFC 1812 4.3.2.3).
const ERROR_MAX: usize = 576;

/// Answers a segment that belongs to no connection (RFC 9293 3.10.7.1). A reset is never answered, nor is anything that was
/// sent to a group (RFC 9293 3.9.2.3).
#[inline]
pub fn tcp_reset(frame: &mut [u8], flow: &Flow) -> Option<usize> {
    let destination = v4_part(flow.destination);
    if flow.protocol != PROTOCOL_TCP || flow.tcp_flags & RST != 0 || !ipv4::is_unicast(destination) {
        return None;
    }
    let (source, destination) = (destination, v4_part(flow.source));
    let segment = *tcp::Header::ref_from_prefix(headers_mut(frame, flow)?.1).ok()?.0;
    let network_offset = usize::from(flow.network_offset);
    let (ip, rest) = ipv4::Header::mut_from_prefix(frame.get_mut(network_offset..)?).ok()?;
    // The options of the cause's IP header, if any, give way to the TCP header.
    let (tcp, _) = tcp::Header::mut_from_prefix(rest).ok()?;
    *ip = ipv4::Header::emit(source, destination, PROTOCOL_TCP, tcp::HEADER_LENGTH as u16);
    *tcp = reset_header(flow, &segment);
    tcp.seal(source, destination, &[]);
    turn_ethernet(frame);
    Some(network_offset + RESET_LENGTH)
}

/// Makes a segment a reset that goes on to its receiver in its sender's name: with the segment's own sequence number, the
/// next one that a receiver who has all before it expects. Source and destination are as the receiver knows them.
#[cold]
pub fn tcp_reset_onward(
    frame: &mut [u8],
    flow: &Flow,
    (source, source_port): ([u8; 4], PortBe),
    (destination, destination_port): ([u8; 4], PortBe),
) -> Option<usize> {
    let segment = *tcp::Header::ref_from_prefix(headers_mut(frame, flow)?.1).ok()?.0;
    let network_offset = usize::from(flow.network_offset);
    let (ip, rest) = ipv4::Header::mut_from_prefix(frame.get_mut(network_offset..)?).ok()?;
    let (tcp, _) = tcp::Header::mut_from_prefix(rest).ok()?;
    *ip = ipv4::Header::emit(source, destination, PROTOCOL_TCP, tcp::HEADER_LENGTH as u16);
    let (sequence, acknowledgement) = (segment.sequence.get(), segment.acknowledgement.get());
    *tcp = tcp::Header::emit(source_port, destination_port, sequence, acknowledgement, RST | flow.tcp_flags & ACK);
    tcp.seal(source, destination, &[]);
    Some(network_offset + RESET_LENGTH)
}

/// The numbers of a reset: they must be acceptable to a peer whose connection is gone.
#[inline]
fn reset_header(flow: &Flow, cause: &tcp::Header) -> tcp::Header {
    let (sequence, acknowledgement, flags) = if flow.tcp_flags & ACK != 0 {
        (cause.acknowledgement.get(), 0, RST)
    } else {
        // SYN and FIN take a sequence number each.
        let phantoms = u32::from(flow.tcp_flags & SYN != 0) + u32::from(flow.tcp_flags & FIN != 0);
        let length = u32::from(flow.payload_length).wrapping_add(phantoms);
        (0, cause.sequence.get().wrapping_add(length), RST | ACK)
    };
    tcp::Header::emit(flow.destination_port, flow.source_port, sequence, acknowledgement, flags)
}

/// Answers an ARP request for an address that `mac` has; a reply isn't answered. The frame is one that
/// [`Packet::parse`](super::Packet::parse) accepted as ARP.
#[inline]
pub fn arp_reply(frame: &mut [u8], mac: &[u8; 6]) -> Option<usize> {
    let network_offset = ethernet::network_offset(frame)?;
    let (header, _) = arp::Header::mut_from_prefix(frame.get_mut(network_offset..)?).ok()?;
    if header.operation.get() != arp::OPERATION_REQUEST {
        return None;
    }
    *header = header.answer(*mac);
    let asker = header.target_mac;
    ethernet::emit_addresses(frame, &asker, mac);
    Some(network_offset + arp::HEADER_LENGTH)
}

/// Answers an ICMP echo request to one address (RFC 1122 3.2.2.6) with its own payload; other messages aren't answered.
#[inline]
pub fn echo_reply(frame: &mut [u8], flow: &Flow) -> Option<usize> {
    if flow.protocol != PROTOCOL_ICMP || !ipv4::is_unicast(v4_part(flow.destination)) {
        return None;
    }
    let length = usize::from(flow.end);
    let (ip, transport) = headers_mut(frame.get_mut(..length)?, flow)?;
    let (icmp, _) = icmp::Header::mut_from_prefix(transport).ok()?;
    if !icmp.is_echo_request() {
        return None;
    }
    let kind = |kind: u8| u16::from_be_bytes([kind, icmp.code]);
    let difference = Difference::default().word(kind(icmp::TYPE_ECHO_REQUEST), kind(icmp::TYPE_ECHO_REPLY));
    icmp.checksum.set(difference.apply(icmp.checksum.get()));
    icmp.kind = icmp::TYPE_ECHO_REPLY;
    // Exchanging the addresses leaves the sum as it is.
    (ip.source, ip.destination) = (ip.destination, ip.source);
    set_ttl(ip, ipv4::TTL_DEFAULT);
    turn_ethernet(frame);
    Some(length)
}

/// Tells the sender that its packet's time to live is used up (RFC 1812 5.3.1), in the name of whom it was sent to. As much
/// is quoted as leaves the answer no longer than its cause; a cause too short to be quoted at all isn't answered, nor is
/// ICMP (RFC 1812 4.3.2.7).
#[cold]
pub fn time_exceeded(frame: &mut [u8], flow: &Flow) -> Option<usize> {
    let (source, destination) = (v4_part(flow.destination), v4_part(flow.source));
    if !matches!(flow.protocol, PROTOCOL_TCP | PROTOCOL_UDP) || !ipv4::is_unicast(source) {
        return None;
    }
    let network_offset = usize::from(flow.network_offset);
    let packet = frame.get_mut(network_offset..usize::from(flow.end))?;
    let length = packet.len().min(ERROR_MAX);
    let quoted = length.checked_sub(ERROR_LENGTH)?;
    if quoted < usize::from(flow.transport_offset - flow.network_offset) + quote::TRANSPORT_MIN {
        return None;
    }
    packet.copy_within(..quoted, ERROR_LENGTH);
    let (ip, message) = ipv4::Header::mut_from_prefix(packet.get_mut(..length)?).ok()?;
    let (icmp, quote) = icmp::Header::mut_from_prefix(message).ok()?;
    *ip = ipv4::Header::emit(source, destination, PROTOCOL_ICMP, (icmp::HEADER_LENGTH + quoted) as u16);
    *icmp = icmp::Header::emit_time_exceeded();
    icmp.seal(quote);
    turn_ethernet(frame);
    Some(network_offset + length)
}

/// Sends the frame back to where it came from.
#[inline]
fn turn_ethernet(frame: &mut [u8]) {
    if let Ok((header, _)) = ethernet::Header::mut_from_prefix(frame) {
        (header.destination, header.source) = (header.source, header.destination);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        LOCAL_MAC, PEER_MAC, are_checksums_right, arp_request, flow_of, icmp_echo, parse_as, poke, segment_of, tcp, udp,
    };
    use crate::{Address, Parsed, arp::Operation};

    const A: ([u8; 4], u16) = ([198, 18, 0, 1], 4000);
    const B: ([u8; 4], u16) = ([198, 18, 1, 1], 80);

    /// The answer to a frame, and its TCP header.
    fn reset_to(mut frame: Vec<u8>) -> Option<(Vec<u8>, tcp::Header)> {
        let flow = flow_of(&frame);
        let cause_length = frame.len();
        let length = tcp_reset(&mut frame, &flow)?;
        assert!(length <= cause_length);
        frame.truncate(length);
        assert!(are_checksums_right(&frame));
        let Ok(Parsed::Ip(answer)) = parse_as(&frame, &PEER_MAC) else { panic!("answer refused") };
        assert_eq!((answer.source, answer.source_port), (flow.destination, flow.destination_port));
        assert_eq!((answer.destination, answer.destination_port), (flow.source, flow.source_port));
        assert_eq!((answer.ttl, usize::from(answer.end), answer.payload_length), (64, length, 0));
        assert_eq!(frame[..12], [PEER_MAC, LOCAL_MAC].concat());
        let segment = segment_of(&frame);
        Some((frame, segment))
    }

    fn numbers(segment: &tcp::Header) -> (u32, u32, u8) {
        (segment.sequence.get(), segment.acknowledgement.get(), segment.flags)
    }

    #[test]
    fn reset_of_a_segment_with_ack_takes_its_sequence_from_it() {
        let (_, answer) = reset_to(tcp(A, B, ACK).sequence(5).acknowledgement(77).payload(b"data").build()).unwrap();
        assert_eq!(numbers(&answer), (77, 0, RST));
    }

    #[test]
    fn row_90_reset_of_a_syn_acknowledges_it() {
        let (_, answer) = reset_to(tcp(A, B, SYN).sequence(1000).build()).unwrap();
        assert_eq!(numbers(&answer), (0, 1001, RST | ACK));
        let (_, answer) = reset_to(tcp(A, B, SYN).sequence(u32::MAX).payload(b"fast").build()).unwrap();
        assert_eq!(answer.acknowledgement.get(), 4);
        let (_, answer) = reset_to(tcp(A, B, FIN).sequence(10).payload(b"last").build()).unwrap();
        assert_eq!(answer.acknowledgement.get(), 15);
    }

    #[test]
    fn reset_drops_options_padding_and_keeps_a_priority_tag() {
        let options = [2, 4, 5, 0xb4, 1, 1, 4, 2];
        let (frame, _) = reset_to(tcp(A, B, SYN).ip_options(&[1; 8]).tcp_options(&options).padding(9).build()).unwrap();
        assert_eq!(frame.len(), 14 + RESET_LENGTH);
        let (frame, _) = reset_to(tcp(A, B, SYN).vlan(0).build()).unwrap();
        assert_eq!(frame.len(), 18 + RESET_LENGTH);
    }

    /// The bytes another implementation (Scapy) makes of the same answer.
    #[test]
    fn reset_byte_for_byte() {
        let (frame, _) = reset_to(tcp(A, B, SYN).sequence(1000).build()).unwrap();
        assert_eq!(frame, RESET_BY_SCAPY);
    }

    #[test]
    fn row_91_a_reset_is_never_answered() {
        for flags in [RST, RST | ACK] {
            assert!(reset_to(tcp(A, B, flags).build()).is_none());
        }
    }

    #[test]
    fn what_must_not_be_answered_stays_as_it_was() {
        let multicast = tcp(A, ([224, 0, 0, 5], 80), SYN).to_mac([1, 0, 0x5e, 0, 0, 5]).build();
        let ping_all = icmp_echo(A.0, [255; 4]).to_mac(ethernet::BROADCAST).build();
        for original in [multicast, ping_all, udp(A, B).build(), tcp(A, B, RST).build()] {
            let mut frame = original.clone();
            let flow = flow_of(&frame);
            assert_eq!(tcp_reset(&mut frame, &flow), None);
            assert_eq!(echo_reply(&mut frame, &flow), None);
            assert_eq!(frame, original);
        }
    }

    #[test]
    fn arp_request_is_answered() {
        for sender in [[198, 18, 0, 9], [0; 4]] {
            let mut frame = arp_request(PEER_MAC, sender, B.0);
            frame.resize(60, 0);
            assert_eq!(arp_reply(&mut frame, &LOCAL_MAC), Some(42));
            let Ok(Parsed::Arp(answer)) = parse_as(&frame[..42], &PEER_MAC) else { panic!("answer refused") };
            assert_eq!(answer.operation, Operation::Reply);
            assert_eq!((answer.sender_mac, answer.sender_address), (LOCAL_MAC, Address::from_v4(B.0)));
            assert_eq!(answer.target_address, Address::from_v4(sender));
            assert_eq!(frame[..12], [PEER_MAC, LOCAL_MAC].concat());
            assert_eq!(frame[32..38], PEER_MAC);
        }
    }

    #[test]
    fn arp_reply_is_not_answered() {
        let original = poke(arp_request(PEER_MAC, A.0, B.0), 21, &[2]);
        let mut frame = original.clone();
        assert_eq!(arp_reply(&mut frame, &LOCAL_MAC), None);
        assert_eq!(frame, original);
    }

    #[test]
    fn row_76_echo_is_answered() {
        for builder in [icmp_echo(A.0, B.0), icmp_echo(A.0, B.0).vlan(0).ip_options(&[1; 4])] {
            let mut frame = builder.payload(b"ping!").ttl(3).padding(6).build();
            let request = flow_of(&frame);
            let length = echo_reply(&mut frame, &request).unwrap();
            assert_eq!(length, frame.len() - 6);
            frame.truncate(length);
            assert!(are_checksums_right(&frame));
            let Ok(Parsed::Ip(answer)) = parse_as(&frame, &PEER_MAC) else { panic!("answer refused") };
            assert_eq!((answer.source, answer.destination), (request.destination, request.source));
            assert_eq!(answer.ttl, 64);
            let icmp = usize::from(answer.transport_offset);
            assert_eq!(frame[icmp..icmp + 2], [icmp::TYPE_ECHO_REPLY, 0]);
            assert!(frame.ends_with(b"ping!"));
            // An echo reply isn't answered again.
            assert_eq!(echo_reply(&mut frame, &answer), None);
        }
    }

    #[test]
    fn row_31_time_exceeded_quotes_its_cause() {
        for (builder, length) in [
            (udp(A, B).payload(&[7; 28]), 56),
            (udp(A, B).payload(&[7; 29]).padding(3), 57),
            (tcp(A, B, SYN).tcp_options(&[1; 20]), 60),
            (tcp(A, B, SYN).ip_options(&[1; 4]).tcp_options(&[1; 20]).vlan(0), 64),
            (udp(A, B).payload(&[7; 1000]), 576),
        ] {
            let cause = builder.ttl(1).build();
            let (mut frame, flow) = (cause.clone(), flow_of(&cause));
            let network = usize::from(flow.network_offset);
            let answer_length = time_exceeded(&mut frame, &flow).unwrap();
            assert_eq!(answer_length, network + length);
            frame.truncate(answer_length);
            assert!(are_checksums_right(&frame));
            let Ok(Parsed::Ip(answer)) = parse_as(&frame, &PEER_MAC) else { panic!("answer refused") };
            assert_eq!((answer.source, answer.destination, answer.ttl), (flow.destination, flow.source, 64));
            assert_eq!(frame[network + 20..][..8][..2], [11, 0]);
            assert_eq!(frame[network + 28..], cause[network..][..length - 28]);
            assert_eq!(frame[..12], [PEER_MAC, LOCAL_MAC].concat());
            assert!(quote::read(&frame, &answer).is_some_and(|quote| quote.is_intact));
        }
    }

    #[test]
    fn row_31_what_is_too_short_or_icmp_is_not_answered() {
        let multicast = udp(A, ([224, 0, 0, 5], 53)).payload(&[7; 99]).to_mac([1, 0, 0x5e, 0, 0, 5]);
        let with_options = udp(A, B).ip_options(&[1; 4]).payload(&[7; 27]);
        for builder in [udp(A, B).payload(&[7; 27]), with_options, icmp_echo(A.0, B.0).payload(&[7; 99]), multicast] {
            let original = builder.build();
            let mut frame = original.clone();
            let flow = flow_of(&frame);
            assert_eq!(time_exceeded(&mut frame, &flow), None);
            assert_eq!(frame, original);
        }
    }

    #[test]
    fn an_answer_never_ends_past_the_frame() {
        let mut frame = icmp_echo(A.0, B.0).payload(b"ping").build();
        let flow = flow_of(&frame);
        frame.pop();
        assert_eq!(echo_reply(&mut frame, &flow), None);
    }

    const RESET_BY_SCAPY: [u8; 54] = [
        0x02, 0x00, 0x00, 0x00, 0x00, 0x09, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00, 0x45, 0x00, 0x00, 0x28,
        0x00, 0x00, 0x40, 0x00, 0x40, 0x06, 0xad, 0xa9, 0xc6, 0x12, 0x01, 0x01, 0xc6, 0x12, 0x00, 0x01, 0x00, 0x50,
        0x0f, 0xa0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xe9, 0x50, 0x14, 0x00, 0x00, 0x0e, 0xd1, 0x00, 0x00,
    ];
}
