//! The packet that an ICMP error is about, as the error quotes it: its IP header and at least eight bytes more (RFC 792).

use zerocopy::FromBytes;

use super::checksum::{self, Difference};
use super::rewrite::{Side, headers_mut};
use super::{Address, Flow, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, PortBe, icmp, ipv4, tcp, udp};

/// What of the quoted packet's transport header an error must hold (RFC 792).
pub const TRANSPORT_MIN: usize = 8;

/// An ICMP error, and the packet that it quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The error's own header.
    pub error: icmp::Header,
    /// Source address of the quoted packet.
    pub source: Address,
    /// Its destination address.
    pub destination: Address,
    /// Its source port; zero for other protocols than TCP and UDP.
    pub source_port: PortBe,
    /// Its destination port; zero for other protocols than TCP and UDP.
    pub destination_port: PortBe,
    /// Its IP protocol number.
    pub protocol: u8,
    /// The checksum of its IP header is right (RFC 5508 REQ-3).
    pub is_intact: bool,
}

/// Reads an ICMP error. `None` for everything else, and for one that quotes too little, or a later fragment.
#[cold]
pub fn read(frame: &[u8], flow: &Flow) -> Option<Quote> {
    if flow.protocol != PROTOCOL_ICMP {
        return None;
    }
    let message = frame.get(usize::from(flow.transport_offset)..usize::from(flow.end))?;
    let (error, quoted) = icmp::Header::read_from_prefix(message).ok()?;
    let (ip, _) = ipv4::Header::read_from_prefix(quoted).ok()?;
    if !error.is_error() || !ip.may_start_a_packet() {
        return None;
    }
    let (header, transport) = quoted.split_at_checked(ip.header_length())?;
    let &[a, b, c, d, ..] = transport.first_chunk::<TRANSPORT_MIN>()?;
    let has_ports = matches!(ip.protocol, PROTOCOL_TCP | PROTOCOL_UDP);
    let port = |bytes| if has_ports { PortBe(bytes) } else { PortBe::ZERO };
    Some(Quote {
        error,
        source: Address::from_v4(ip.source),
        destination: Address::from_v4(ip.destination),
        source_port: port([a, b]),
        destination_port: port([c, d]),
        protocol: ip.protocol,
        is_intact: checksum::verify(checksum::sum(header)),
    })
}

/// Makes the quoted packet come from `address` and `port` instead.
#[cold]
pub fn nat_source(frame: &mut [u8], flow: &Flow, address: [u8; 4], port: PortBe) {
    translate(frame, flow, Side::Source, address, port);
}

/// Makes the quoted packet go to `address` and `port` instead.
#[cold]
pub fn nat_destination(frame: &mut [u8], flow: &Flow, address: [u8; 4], port: PortBe) {
    translate(frame, flow, Side::Destination, address, port);
}

/// Changes one side of the quoted packet: address, port, its checksums as far as they are quoted, and the error's own, which
/// covers all of them. A frame that [`read`] reads nothing in stays as it is.
fn translate(frame: &mut [u8], flow: &Flow, side: Side, address: [u8; 4], port: PortBe) {
    if read(frame, flow).is_none() {
        return;
    }
    let Some(packet) = frame.get_mut(..usize::from(flow.end)) else { return };
    let Some((_, message)) = headers_mut(packet, flow) else { return };
    let Ok((error, quoted)) = icmp::Header::mut_from_prefix(message) else { return };
    let Ok((ip, rest)) = ipv4::Header::mut_from_prefix(quoted) else { return };
    let Some(transport) = rest.get_mut(ip.header_length().saturating_sub(ipv4::HEADER_LENGTH)..) else { return };

    let (field, port_at) = match side {
        Side::Source => (&mut ip.source, 0),
        Side::Destination => (&mut ip.destination, 2),
    };
    let addresses = Difference::default().address(*field, address);
    *field = address;
    let header_checksum = ip.checksum.get();
    ip.checksum.set(addresses.apply(header_checksum));
    let mut all = addresses.word(header_checksum, ip.checksum.get());
    if matches!(ip.protocol, PROTOCOL_TCP | PROTOCOL_UDP)
        && let Some(old_port) = replace(transport, port_at, |_| port.get())
    {
        all = all.word(old_port, port.get());
        let inner = addresses.word(old_port, port.get());
        let (at, change): (_, &dyn Fn(u16) -> u16) = match ip.protocol {
            // A quote may end before it.
            PROTOCOL_TCP => (tcp::CHECKSUM_OFFSET, &|old| inner.apply(old)),
            // A sender that made no checksum gets none (RFC 768).
            _ => (udp::CHECKSUM_OFFSET, &|old| if old == 0 { 0 } else { udp::wire_checksum(inner.apply(old)) }),
        };
        if let Some(old) = replace(transport, at, change) {
            all = all.word(old, change(old));
        }
    }
    error.checksum.set(all.apply(error.checksum.get()));
}

/// Replaces the 16-bit word at `at`, and returns the old one; `None` if it isn't there.
fn replace(bytes: &mut [u8], at: usize, new: impl Fn(u16) -> u16) -> Option<u16> {
    let word = bytes.get_mut(at..)?.first_chunk_mut::<2>()?;
    let old = u16::from_be_bytes(*word);
    *word = new(old).to_be_bytes();
    Some(old)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{are_checksums_right, flow_of, icmp_echo, poke, seal, tcp};
    use crate::tests::any_frame;
    use crate::{ethernet, tcp as tcp_wire, v4_part};

    const ROUTER: [u8; 4] = [198, 18, 0, 254];
    const A: ([u8; 4], u16) = ([198, 18, 0, 100], 80);
    const B: ([u8; 4], u16) = ([198, 18, 0, 2], 40000);
    /// Where the quote starts in an untagged frame without IP options.
    const QUOTE: usize = 14 + 20 + 8;

    /// The error about a frame that quotes so much of it.
    fn about(cause: &[u8], length: usize) -> Vec<u8> {
        let cause = &cause[ethernet::network_offset(cause).unwrap()..];
        icmp_echo(ROUTER, A.0).icmp(3, 4).payload(&cause[..length.min(cause.len())]).build()
    }

    fn read_frame(frame: &[u8]) -> Option<Quote> {
        read(frame, &flow_of(frame))
    }

    #[test]
    fn what_is_quoted_is_read() {
        let frame = about(&tcp(A, B, tcp_wire::ACK).ip_options(&[1; 8]).build(), 36);
        let quote = read_frame(&frame).unwrap();
        assert_eq!((quote.error.kind, quote.error.code, quote.protocol), (3, 4, PROTOCOL_TCP));
        assert_eq!((v4_part(quote.source), quote.source_port.get()), A);
        assert_eq!((v4_part(quote.destination), quote.destination_port.get()), B);
        assert!(quote.is_intact);
    }

    #[test]
    fn row_69_too_little_or_no_first_fragment_is_no_quote() {
        let cause = tcp(A, B, tcp_wire::ACK).build();
        for length in 0..28 {
            assert_eq!(read_frame(&about(&cause, length)), None, "{length} bytes");
        }
        assert!(read_frame(&about(&cause, 28)).is_some());
        let changed = |at: usize, bytes: &[u8]| {
            let mut frame = poke(about(&cause, 40), QUOTE + at, bytes);
            seal(&mut frame);
            read_frame(&frame)
        };
        for (at, bytes) in [(0, [0x65]), (0, [0x44]), (0, [0x4f]), (7, [1])] {
            assert_eq!(changed(at, &bytes), None);
        }
        assert!(!changed(8, &[1]).unwrap().is_intact, "time to live without its checksum");
        assert_eq!(read_frame(&icmp_echo(ROUTER, A.0).payload(&cause[14..]).build()), None, "an echo");
    }

    /// The quoted packet as a frame of its own, when the error quotes all of it.
    fn quoted(frame: &[u8]) -> Vec<u8> {
        let flow = flow_of(frame);
        let start = usize::from(flow.transport_offset) + icmp::HEADER_LENGTH;
        [&frame[..12], &[8, 0], &frame[start..usize::from(flow.end)]].concat()
    }

    proptest! {
        #[test]
        fn checksums_are_those_of_full_recomputation(
            cause in any_frame(), source in any::<[u8; 4]>(), destination in any::<[u8; 4]>(), ports in any::<(u16, u16)>(),
        ) {
            let mut frame = about(&cause, usize::MAX);
            let flow = flow_of(&frame);
            nat_source(&mut frame, &flow, source, PortBe::new(ports.0));
            nat_destination(&mut frame, &flow, destination, PortBe::new(ports.1));
            prop_assert!(are_checksums_right(&frame));
            // Its padding was quoted too: the packet's own length says where it ends.
            let mut inner = quoted(&frame);
            let unsealed = inner.clone();
            seal(&mut inner);
            prop_assert_eq!(inner, unsealed);
        }

        #[test]
        fn there_and_back_is_the_original(cause in any_frame(), length in 0..80usize, to in any::<([u8; 4], u16)>()) {
            let original = about(&cause, length);
            let mut frame = original.clone();
            let flow = flow_of(&frame);
            let before = read(&frame, &flow);
            nat_source(&mut frame, &flow, to.0, PortBe::new(to.1));
            prop_assert!(are_checksums_right(&frame));
            if let Some(before) = before {
                nat_source(&mut frame, &flow, v4_part(before.source), before.source_port);
            }
            prop_assert_eq!(frame, original);
        }

        #[test]
        fn only_the_named_fields_change(cause in any_frame(), length in 0..80usize, to in any::<([u8; 4], u16)>()) {
            let original = about(&cause, length);
            let mut frame = original.clone();
            let flow = flow_of(&frame);
            nat_destination(&mut frame, &flow, to.0, PortBe::new(to.1));
            let transport = QUOTE + usize::from(original.get(QUOTE).unwrap_or(&0) & 15) * 4;
            let checksum = match original.get(QUOTE + 9) {
                Some(&PROTOCOL_TCP) => transport + tcp_wire::CHECKSUM_OFFSET,
                _ => transport + udp::CHECKSUM_OFFSET,
            };
            let named = [34 + 2, QUOTE + 10, QUOTE + 16, QUOTE + 18, transport + 2, checksum];
            for at in (0..frame.len()).filter(|at| !named.contains(at) && !named.contains(&(at - at.min(&1)))) {
                prop_assert_eq!(frame[at], original[at], "byte {}", at);
            }
        }

        #[test]
        fn arbitrary_quotes_never_panic_and_keep_the_checksum(
            quote in prop::collection::vec(any::<u8>(), 0..100), first in prop::option::of(0x40..0x50u8), kind in 0..20u8,
        ) {
            let mut quote = quote;
            if let (Some(byte), Some(first)) = (quote.first_mut(), first) {
                *byte = first;
            }
            let mut frame = icmp_echo(ROUTER, A.0).icmp(kind, 0).payload(&quote).padding(3).build();
            let flow = flow_of(&frame);
            nat_source(&mut frame, &flow, [198, 18, 9, 9], PortBe::new(9));
            nat_destination(&mut frame, &flow, [198, 18, 8, 8], PortBe::new(8));
            prop_assert!(are_checksums_right(&frame));
            let cut = frame.len() / 2;
            nat_source(&mut frame[..cut], &flow, [198, 18, 7, 7], PortBe::new(7));
        }
    }
}
