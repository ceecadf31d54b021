//! Changing a frame in place on its way through ("re-write" of Fig. 6), checksums by difference.
//!
//! Everything replaced is read from the frame, not from the flow, so that one frame can be re-written on both sides in turn.

use zerocopy::FromBytes;

use super::checksum::Difference;
use super::{Flow, PROTOCOL_TCP, PROTOCOL_UDP, PortBe, ethernet, ipv4, tcp, udp};

/// Which end of a packet is replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

/// Sends the packet to `address` and `port` instead.
#[inline]
pub fn nat_destination(frame: &mut [u8], flow: &Flow, address: [u8; 4], port: PortBe) {
    translate(frame, flow, Side::Destination, address, port);
}

/// Makes the packet come from `address` and `port` instead.
#[inline]
pub fn nat_source(frame: &mut [u8], flow: &Flow, address: [u8; 4], port: PortBe) {
    translate(frame, flow, Side::Source, address, port);
}

/// Sends the frame to `destination` from `source`.
#[inline]
pub fn set_ethernet(frame: &mut [u8], destination: &[u8; 6], source: &[u8; 6]) {
    ethernet::emit_addresses(frame, destination, source);
}

/// Decrements the time to live. A packet with less than 2 left isn't forwarded at all (RFC 1812 5.3.1): the
/// caller checks that; 0 stays 0.
#[inline]
pub fn decrement_ttl(frame: &mut [u8], flow: &Flow) {
    if let Some((ip, _)) = headers_mut(frame, flow) {
        set_ttl(ip, ip.ttl.saturating_sub(1));
    }
}

/// Replaces the time to live, keeping the header's checksum right.
#[inline]
pub(super) fn set_ttl(ip: &mut ipv4::Header, ttl: u8) {
    // The checksum covers the time to live and the protocol as one word.
    let word = |ttl: u8| u16::from_be_bytes([ttl, ip.protocol]);
    let difference = Difference::default().word(word(ip.ttl), word(ttl));
    ip.checksum.set(difference.apply(ip.checksum.get()));
    ip.ttl = ttl;
}

/// The IP header of a frame, and the frame from its transport header on.
#[inline]
pub(super) fn headers_mut<'a>(frame: &'a mut [u8], flow: &Flow) -> Option<(&'a mut ipv4::Header, &'a mut [u8])> {
    let network_offset = usize::from(flow.network_offset);
    let options_length = usize::from(flow.transport_offset).checked_sub(network_offset + ipv4::HEADER_LENGTH)?;
    let (ip, rest) = ipv4::Header::mut_from_prefix(frame.get_mut(network_offset..)?).ok()?;
    Some((ip, rest.get_mut(options_length..)?))
}

#[inline(always)]
fn translate(frame: &mut [u8], flow: &Flow, side: Side, address: [u8; 4], port: PortBe) {
    let Some((ip, transport)) = headers_mut(frame, flow) else {
        return;
    };
    let field = match side {
        Side::Source => &mut ip.source,
        Side::Destination => &mut ip.destination,
    };
    let difference = Difference::default().address(*field, address);
    *field = address;
    ip.checksum.set(difference.apply(ip.checksum.get()));
    match flow.protocol {
        PROTOCOL_TCP => translate_tcp(transport, side, difference, port),
        PROTOCOL_UDP => translate_udp(transport, side, difference, port),
        // No ports, and no checksum over the addresses.
        _ => {}
    }
}

#[inline(always)]
fn translate_tcp(transport: &mut [u8], side: Side, addresses: Difference, port: PortBe) {
    let Ok((tcp, _)) = tcp::Header::mut_from_prefix(transport) else {
        return;
    };
    let field = match side {
        Side::Source => &mut tcp.source_port,
        Side::Destination => &mut tcp.destination_port,
    };
    let difference = addresses.word(field.get(), port.get());
    *field = port;
    tcp.checksum.set(difference.apply(tcp.checksum.get()));
}

#[inline(always)]
fn translate_udp(transport: &mut [u8], side: Side, addresses: Difference, port: PortBe) {
    let Ok((udp, _)) = udp::Header::mut_from_prefix(transport) else {
        return;
    };
    let field = match side {
        Side::Source => &mut udp.source_port,
        Side::Destination => &mut udp.destination_port,
    };
    let difference = addresses.word(field.get(), port.get());
    *field = port;
    // A sender that made no checksum gets none (RFC 768).
    if udp.checksum.get() != 0 {
        udp.checksum.set(udp::wire_checksum(difference.apply(udp.checksum.get())));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{LOCAL_MAC, assert_frame, flow_of, seal, udp};
    use crate::tests::any_frame;
    use crate::{checksum, v4_part};

    const A: ([u8; 4], u16) = ([198, 18, 0, 1], 4000);
    const B: ([u8; 4], u16) = ([198, 18, 1, 1], 53);
    /// Where the checksum stands in an untagged UDP frame without IP options.
    const UDP_CHECKSUM: usize = 14 + 20 + udp::CHECKSUM_OFFSET;

    #[test]
    fn row_98_udp_without_checksum_stays_so() {
        let to = |destination| udp(A, destination).payload(b"data").without_checksum().build();
        let mut frame = to(B);
        let flow = flow_of(&frame);
        nat_destination(&mut frame, &flow, [198, 18, 2, 2], PortBe::new(5353));
        assert_frame(&frame, &to(([198, 18, 2, 2], 5353)), "without a checksum");
    }

    #[test]
    fn row_100_udp_checksum_0_is_sent_as_ffff() {
        let mut frame = udp(A, B).payload(&[0, 0]).build();
        let flow = flow_of(&frame);
        let checksum = u16::from_be_bytes([frame[UDP_CHECKSUM], frame[UDP_CHECKSUM + 1]]);
        // Adding the old checksum to the port makes the right checksum 0.
        let port = PortBe::new(checksum::fold(u64::from(B.1) + u64::from(checksum)));
        nat_destination(&mut frame, &flow, B.0, port);
        assert_eq!(frame[UDP_CHECKSUM..][..2], [0xff, 0xff]);
        assert_frame(&frame, &udp(A, (B.0, port.get())).payload(&[0, 0]).build(), "there");
        nat_destination(&mut frame, &flow, B.0, PortBe::new(B.1));
        assert_frame(&frame, &udp(A, B).payload(&[0, 0]).build(), "and back");
    }

    #[test]
    fn ttl_0_stays() {
        let mut frame = udp(A, B).ttl(0).build();
        let flow = flow_of(&frame);
        decrement_ttl(&mut frame, &flow);
        assert_frame(&frame, &udp(A, B).ttl(0).build(), "as it was");
    }

    #[test]
    fn ethernet_addresses_are_set() {
        let mut frame = udp(A, B).build();
        set_ethernet(&mut frame, &LOCAL_MAC, &[2, 0, 0, 0, 9, 9]);
        let expected = udp(A, B).to_mac(LOCAL_MAC).from_mac([2, 0, 0, 0, 9, 9]).build();
        assert_frame(&frame, &expected, "on its way");
        set_ethernet(&mut frame[..13], &[0; 6], &[0; 6]);
        assert_frame(&frame, &expected, "too short to have addresses");
    }

    proptest! {
        #[test]
        fn checksums_are_those_of_full_recomputation(
            mut frame in any_frame(), source in any::<[u8; 4]>(), destination in any::<[u8; 4]>(), ports in any::<(u16, u16)>(),
        ) {
            let flow = flow_of(&frame);
            nat_source(&mut frame, &flow, source, PortBe::new(ports.0));
            nat_destination(&mut frame, &flow, destination, PortBe::new(ports.1));
            decrement_ttl(&mut frame, &flow);
            let mut sealed = frame.clone();
            seal(&mut sealed);
            prop_assert_eq!(frame, sealed);
        }

        #[test]
        fn there_and_back_is_the_original(
            original in any_frame(), destination in any::<[u8; 4]>(), source in any::<[u8; 4]>(), ports in any::<(u16, u16)>(),
        ) {
            let mut frame = original.clone();
            let flow = flow_of(&frame);
            nat_destination(&mut frame, &flow, destination, PortBe::new(ports.0));
            nat_source(&mut frame, &flow, source, PortBe::new(ports.1));
            nat_destination(&mut frame, &flow, v4_part(flow.destination), flow.destination_port);
            nat_source(&mut frame, &flow, v4_part(flow.source), flow.source_port);
            prop_assert_eq!(frame, original);
        }

        #[test]
        fn only_the_named_fields_change(original in any_frame(), address in any::<[u8; 4]>(), port in 1u16..) {
            let mut frame = original.clone();
            let before = flow_of(&frame);
            nat_destination(&mut frame, &before, address, PortBe::new(port));
            let (transport, end) = (usize::from(before.transport_offset), usize::from(before.end));
            let network = usize::from(before.network_offset);
            prop_assert_eq!(&frame[..network + 10], &original[..network + 10]);
            prop_assert_eq!(&frame[network + 12..network + 16], &original[network + 12..network + 16]);
            prop_assert_eq!(&frame[network + 16..network + 20], &address);
            prop_assert_eq!(&frame[network + 20..transport + 2], &original[network + 20..transport + 2]);
            let payload = end - usize::from(before.payload_length);
            prop_assert_eq!(&frame[payload..], &original[payload..]);
        }
    }
}
