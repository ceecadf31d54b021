//! Answers made in the frame that caused them: the verdict `Reply` of Fig. 6.
//!
//! Each function turns the frame round and returns the answer's length, never more than its cause's; `None` where the cause
//! must not be answered, and then the frame is as it was. The caller limits the rate of answers.

use zerocopy::FromBytes;

use super::checksum::Difference;
use super::rewrite::{headers_mut, set_ttl};
use super::tcp::{ACK, FIN, RST, SYN};
use super::{Flow, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, PortBe, arp, ethernet, icmp, ipv4, quote, tcp, v4_part};

/// Length of a reset from its IP header on.
const RESET_LENGTH: usize = ipv4::HEADER_LENGTH + tcp::HEADER_LENGTH;

/// Length of an ICMP error before the packet that it quotes.
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

/// Answers with "time to live exceeded" (RFC 1812 5.3.1), from the packet's destination address. The quote is short enough to keep
/// the answer no longer than its cause. A cause too short to be quoted isn't answered, nor is an ICMP message (RFC 1812 4.3.2.7).
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
    use crate::tcp::PSH;
    use crate::testing::{
        self, FrameBuilder, LOCAL_MAC, PEER_MAC, arp_request, assert_frame, flow_of, icmp_echo, poke, tcp, udp,
    };

    const A: ([u8; 4], u16) = ([198, 18, 0, 1], 4000);
    const B: ([u8; 4], u16) = ([198, 18, 1, 1], 80);

    /// What an answer is sent from and to.
    fn back(answer: FrameBuilder) -> FrameBuilder {
        answer.from_mac(LOCAL_MAC).to_mac(PEER_MAC)
    }

    /// Compares the answer to a frame, whole.
    #[track_caller]
    fn assert_answer(
        answer: fn(&mut [u8], &Flow) -> Option<usize>,
        cause: &FrameBuilder,
        expected: FrameBuilder,
    ) -> Vec<u8> {
        let mut frame = cause.build();
        let (flow, received) = (flow_of(&frame), frame.len());
        let length = answer(&mut frame, &flow).expect("an answer");
        assert!(length <= received);
        frame.truncate(length);
        assert_frame(&frame, &back(expected).build(), format_args!("the answer to {cause:?}"));
        frame
    }

    #[track_caller]
    fn assert_reset(cause: FrameBuilder, sequence: u32, acknowledgement: u32, flags: u8) {
        let expected = tcp(B, A, flags).sequence(sequence).acknowledgement(acknowledgement);
        assert_answer(tcp_reset, &cause, expected);
    }

    #[test]
    fn reset_of_a_segment_with_ack_takes_its_sequence_from_it() {
        assert_reset(tcp(A, B, ACK).sequence(5).acknowledgement(77).payload(b"data"), 77, 0, RST);
    }

    #[test]
    fn row_90_reset_of_a_syn_acknowledges_it() {
        assert_reset(tcp(A, B, SYN).sequence(1000), 0, 1001, RST | ACK);
        assert_reset(tcp(A, B, SYN).sequence(u32::MAX).payload(b"fast"), 0, 4, RST | ACK);
        assert_reset(tcp(A, B, FIN).sequence(10).payload(b"last"), 0, 15, RST | ACK);
    }

    #[test]
    fn reset_drops_options_padding_and_keeps_a_priority_tag() {
        let options = [2, 4, 5, 0xb4, 1, 1, 4, 2];
        assert_reset(tcp(A, B, SYN).ip_options(&[1; 8]).tcp_options(&options).padding(9), 0, 1, RST | ACK);
        assert_answer(tcp_reset, &tcp(A, B, SYN).vlan(0), tcp(B, A, RST | ACK).acknowledgement(1).vlan(0));
    }

    #[test]
    fn row_91_a_reset_is_never_answered() {
        for flags in [RST, RST | ACK] {
            let mut frame = tcp(A, B, flags).build();
            let flow = flow_of(&frame);
            assert_eq!(tcp_reset(&mut frame, &flow), None);
            assert_frame(&frame, &tcp(A, B, flags).build(), "as it was");
        }
    }

    #[test]
    fn row_77_an_echo_to_a_group_is_never_answered() {
        for group in [[255; 4], [224, 0, 0, 1]] {
            let original = icmp_echo(A.0, group).to_mac(ethernet::BROADCAST).build();
            let mut frame = original.clone();
            let flow = flow_of(&frame);
            assert_eq!(echo_reply(&mut frame, &flow), None);
            assert_frame(&frame, &original, "as it was");
        }
    }

    #[test]
    fn row_95_a_reset_acknowledges_across_the_wrap_of_sequence_numbers() {
        assert_reset(tcp(A, B, SYN).sequence(u32::MAX), 0, 0, RST | ACK);
        assert_reset(tcp(A, B, SYN | PSH).sequence(u32::MAX - 2).payload(b"fast"), 0, 2, RST | ACK);
        assert_reset(tcp(A, B, ACK).acknowledgement(u32::MAX), u32::MAX, 0, RST);
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
            assert_frame(&frame[..42], &testing::arp_reply(LOCAL_MAC, B.0, PEER_MAC, sender), "the answer");
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
        for shape in [|echo: FrameBuilder| echo, |echo: FrameBuilder| echo.vlan(0).ip_options(&[1; 4])] {
            let echo = |from, to| shape(icmp_echo(from, to)).sequence(9).payload(b"ping!");
            let mut reply = assert_answer(
                echo_reply,
                &echo(A.0, B.0).ttl(3).padding(6),
                echo(B.0, A.0).icmp(icmp::TYPE_ECHO_REPLY, 0),
            );
            // An echo reply isn't answered again.
            let flow = flow_of(&reply);
            assert_eq!(echo_reply(&mut reply, &flow), None);
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
            let cause = builder.ttl(1);
            let (frame, flow) = (cause.build(), flow_of(&cause.build()));
            let quoted = &frame[usize::from(flow.network_offset)..][..length - ERROR_LENGTH];
            let expected = icmp_echo(B.0, A.0).icmp(icmp::TYPE_TIME_EXCEEDED, 0).icmp_rest([0; 4]).payload(quoted);
            let expected = if flow.network_offset > 14 { expected.vlan(0) } else { expected };
            let answer = assert_answer(time_exceeded, &cause, expected);
            assert!(quote::read(&answer, &flow_of(&answer)).is_some_and(|quote| quote.is_intact));
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
}
