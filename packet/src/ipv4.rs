//! IPv4 (RFC 791), checked as a router must (RFC 1812 5.2.2).

use core::fmt;
use core::net::Ipv4Addr;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{PROTOCOL_TCP, ParseError, checksum};

/// Length of the header without options.
pub const HEADER_LENGTH: usize = size_of::<Header>();
/// Time to live of packets that Shunt itself makes (RFC 1700).
pub const TTL_DEFAULT: u8 = 64;
/// The smallest MTU that a link may have (RFC 791 section 3.2).
pub const MTU_MIN: u16 = 68;

const VERSION_4: u8 = 0x40;
const VERSION_4_NO_OPTIONS: u8 = 0x45;
const FLAG_RESERVED: u16 = 0x8000;
const FLAG_DONT_FRAGMENT: u16 = 0x4000;
const FLAG_MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;
/// Transport bytes that a first fragment needs for a filter to see TCP's flags: TMIN of RFC 1858 3.
const TCP_FRAGMENT_MIN: usize = 16;
const OPTION_END: u8 = 0;
const OPTION_NONE: u8 = 1;
const OPTION_LOOSE_ROUTE: u8 = 131;
const OPTION_STRICT_ROUTE: u8 = 137;

/// The header without its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Version in the upper half, header length in 4-byte words in the lower.
    pub version_length: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Header and payload, in bytes.
    pub total_length: U16,
    /// Identification: the same in all fragments of a datagram.
    pub identification: U16,
    /// Three flags, then the fragment offset in 8-byte units.
    pub fragment: U16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Checksum over the header with its options.
    pub checksum: U16,
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
}

/// Checks the packet that starts `network`: its header, and the transport's bytes without link-layer padding.
#[inline]
pub fn check(network: &[u8]) -> Result<(&Header, &[u8]), ParseError> {
    let (header, _) = Header::ref_from_prefix(network).map_err(|_| ParseError::Ip4Truncated)?;
    if header.version_length == VERSION_4_NO_OPTIONS {
        let transport = split_payload(header, network)?.1;
        if !checksum::verify(checksum::sum(header.as_bytes())) {
            return Err(ParseError::Ip4Checksum);
        }
        header.check_addresses()?;
        header.check_fragment(transport)?;
        return Ok((header, transport));
    }
    check_with_options(header, network)
}

/// As [`check`], for a header that isn't the usual 20 bytes long.
#[cold]
fn check_with_options<'a>(header: &'a Header, network: &'a [u8]) -> Result<(&'a Header, &'a [u8]), ParseError> {
    let (options, transport) = check_header(header, network)?;
    check_options(options)?;
    header.check_fragment(transport)?;
    Ok((header, transport))
}

/// Checks only version, lengths, checksum and addresses. Fragments, any options and an empty payload pass.
#[cold]
pub fn check_whole(network: &[u8]) -> Result<(&Header, &[u8]), ParseError> {
    let (header, _) = Header::ref_from_prefix(network).map_err(|_| ParseError::Ip4Truncated)?;
    Ok((header, check_header(header, network)?.1))
}

/// The options, and what follows the header.
fn check_header<'a>(header: &Header, network: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), ParseError> {
    if header.version_length & 0xf0 != VERSION_4 {
        return Err(ParseError::Ip4Version);
    }
    if header.header_length() < HEADER_LENGTH {
        return Err(ParseError::Ip4HeaderLength);
    }
    let (whole_header, transport) = split_payload(header, network)?;
    if !checksum::verify(checksum::sum(whole_header)) {
        return Err(ParseError::Ip4Checksum);
    }
    header.check_addresses()?;
    Ok((whole_header.get(HEADER_LENGTH..).unwrap_or_default(), transport))
}

/// Splits a packet into its header with options and what follows, by the lengths that the header gives.
#[inline]
fn split_payload<'a>(header: &Header, network: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), ParseError> {
    let header_length = header.header_length();
    if header_length > network.len() {
        return Err(ParseError::Ip4Truncated);
    }
    let total_length = usize::from(header.total_length.get());
    if total_length < header_length {
        return Err(ParseError::Ip4Length);
    }
    let packet = network.get(..total_length).ok_or(ParseError::Ip4Truncated)?;
    packet.split_at_checked(header_length).ok_or(ParseError::Ip4Length)
}

/// Walks the options: source routing is refused (RFC 7126 4.3, 4.4), others go on as they are.
fn check_options(mut options: &[u8]) -> Result<(), ParseError> {
    loop {
        options = match options {
            [] | [OPTION_END, ..] => return Ok(()),
            [OPTION_NONE, rest @ ..] => rest,
            [OPTION_LOOSE_ROUTE | OPTION_STRICT_ROUTE, ..] => {
                return Err(ParseError::Ip4SourceRoute);
            }
            [_, length @ 2..=u8::MAX, ..] => options.get(usize::from(*length)..).ok_or(ParseError::Ip4Option)?,
            _ => return Err(ParseError::Ip4Option),
        }
    }
}

impl Header {
    /// Refuses invalid sources (RFC 1812 5.3.7) and packets whose destination is their source.
    #[inline]
    fn check_addresses(&self) -> Result<(), ParseError> {
        if matches!(self.source[0], 0 | 127 | 224..) {
            return Err(ParseError::Martian);
        }
        if self.source == self.destination {
            return Err(ParseError::Land);
        }
        Ok(())
    }

    /// Refuses fragments, and packets without a transport byte.
    #[inline]
    fn check_fragment(&self, transport: &[u8]) -> Result<(), ParseError> {
        if self.is_fragment() {
            return Err(self.fragment_reason(transport));
        }
        if transport.is_empty() { Err(ParseError::TransportShort) } else { Ok(()) }
    }

    #[cold]
    fn fragment_reason(&self, transport: &[u8]) -> ParseError {
        match self.fragment.get() & FRAGMENT_OFFSET {
            0 if self.protocol == PROTOCOL_TCP && transport.len() < TCP_FRAGMENT_MIN => ParseError::FragmentTiny,
            1 if self.protocol == PROTOCOL_TCP => ParseError::FragmentOffset1,
            _ => ParseError::Fragment,
        }
    }
}

/// Whether an address is a host's: neither multicast nor the limited broadcast.
#[inline]
pub const fn is_unicast(address: [u8; 4]) -> bool {
    address[0] & 0xf0 != 224 && u32::from_be_bytes(address) != u32::MAX
}

impl Header {
    /// Length with options, in bytes.
    #[inline]
    pub fn header_length(&self) -> usize {
        usize::from(self.version_length & 0x0f) * 4
    }

    /// Whether version and header length are possible and it has a transport header: it is no later fragment.
    #[inline]
    pub fn may_start_a_packet(&self) -> bool {
        let is_possible = self.version_length & 0xf0 == VERSION_4 && self.header_length() >= HEADER_LENGTH;
        is_possible && self.fragment.get() & FRAGMENT_OFFSET == 0
    }

    /// Whether it is a fragment.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment.get() & (FLAG_MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0
    }

    /// Whether the bit that must be zero isn't (RFC 791 3.1).
    #[inline]
    pub fn has_reserved_flag(&self) -> bool {
        self.fragment.get() & FLAG_RESERVED != 0
    }

    /// A header without options for `payload_length` bytes, its checksum filled in. The identification stays 0: it means
    /// nothing in a packet that may not be fragmented (RFC 6864 4.1).
    #[inline]
    pub fn emit(source: [u8; 4], destination: [u8; 4], protocol: u8, payload_length: u16) -> Self {
        let mut header = Self {
            version_length: VERSION_4_NO_OPTIONS,
            traffic_class: 0,
            total_length: U16::new(payload_length.saturating_add(HEADER_LENGTH as u16)),
            identification: U16::ZERO,
            fragment: U16::new(FLAG_DONT_FRAGMENT),
            ttl: TTL_DEFAULT,
            protocol,
            checksum: U16::ZERO,
            source,
            destination,
        };
        header.checksum = U16::new(checksum::finish(checksum::sum(header.as_bytes())));
        header
    }
}

impl fmt::Display for Header {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, destination) = (Ipv4Addr::from(self.source), Ipv4Addr::from(self.destination));
        write!(out, "IPv{} {source} -> {destination}", self.version_length >> 4)?;
        write!(out, " protocol {} ttl {}", self.protocol, self.ttl)?;
        write!(out, " header {} of {} bytes", self.header_length(), self.total_length)?;
        write!(out, " class {:#04x} id {}", self.traffic_class, self.identification)?;
        let fragment = self.fragment.get();
        let flags = [(FLAG_RESERVED, "reserved"), (FLAG_DONT_FRAGMENT, "DF"), (FLAG_MORE_FRAGMENTS, "MF")];
        for (_, name) in flags.into_iter().filter(|(flag, _)| fragment & flag != 0) {
            write!(out, " {name}")?;
        }
        write!(out, " offset {} checksum {:#06x}", fragment & FRAGMENT_OFFSET, self.checksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{LOCAL_MAC, poke, refusal, seal, tcp, udp};
    use crate::{Packet, Parsed, tcp::ACK};

    const A: ([u8; 4], u16) = ([198, 18, 0, 1], 4000);
    const B: ([u8; 4], u16) = ([198, 18, 1, 1], 80);
    /// Where the IP header starts in an untagged frame.
    const IP: usize = 14;

    fn plain() -> Vec<u8> {
        tcp(A, B, ACK).payload(b"data").build()
    }

    /// The reason for the plain frame with bytes changed and its checksums made right again.
    fn changed(offset: usize, bytes: &[u8]) -> Option<ParseError> {
        let mut frame = poke(plain(), offset, bytes);
        seal(&mut frame);
        refusal(&frame)
    }

    #[test]
    fn row_25_ip4_version() {
        for version in [0, 5, 6, 15] {
            assert_eq!(changed(IP, &[version << 4 | 5]), Some(ParseError::Ip4Version));
        }
    }

    #[test]
    fn row_26_ip4_header_length() {
        for words in 0..5 {
            assert_eq!(changed(IP, &[VERSION_4 | words]), Some(ParseError::Ip4HeaderLength));
        }
    }

    #[test]
    fn row_27_header_past_the_frame() {
        assert_eq!(refusal(&plain()[..IP + 19]), Some(ParseError::Ip4Truncated));
        let frame = poke(plain(), IP, &[VERSION_4 | 6]);
        assert_eq!(refusal(&frame[..IP + 23]), Some(ParseError::Ip4Truncated));
    }

    #[test]
    fn row_28_ip4_length() {
        for total in [0u16, 19] {
            assert_eq!(changed(IP + 2, &total.to_be_bytes()), Some(ParseError::Ip4Length));
        }
    }

    #[test]
    fn row_29_packet_past_the_frame() {
        let frame = plain();
        assert_eq!(refusal(&frame[..frame.len() - 1]), Some(ParseError::Ip4Truncated));
    }

    #[test]
    fn row_30_ip4_checksum() {
        assert_eq!(refusal(&poke(plain(), IP + 8, &[63])), Some(ParseError::Ip4Checksum));
        let with_options = tcp(A, B, ACK).ip_options(&[1, 1, 1, 1]).build();
        assert_eq!(refusal(&with_options), None);
        assert_eq!(refusal(&poke(with_options, IP + 20, &[0])), Some(ParseError::Ip4Checksum));
    }

    #[test]
    fn row_32_martian() {
        for first in [0, 127, 224, 239, 240, 255] {
            assert_eq!(changed(IP + 12, &[first]), Some(ParseError::Martian), "{first}");
        }
        for first in [1, 126, 128, 223] {
            assert_eq!(changed(IP + 12, &[first]), None, "{first}");
        }
    }

    #[test]
    fn row_33_land() {
        assert_eq!(refusal(&tcp(A, (A.0, 80), ACK).build()), Some(ParseError::Land));
    }

    #[test]
    fn row_35_ip4_source_route() {
        for kind in [OPTION_LOOSE_ROUTE, OPTION_STRICT_ROUTE] {
            let frame = udp(A, B).ip_options(&[1, kind, 7, 4, 198, 18, 0, 2]).build();
            assert_eq!(refusal(&frame), Some(ParseError::Ip4SourceRoute));
        }
    }

    #[test]
    fn row_36_other_options_are_stepped_over() {
        // Record route, no operation, router alert; then the end of the list, behind which nothing counts.
        let options = [7, 7, 4, 0, 0, 0, 0, 1, 148, 4, 0, 0, 0, 131, 0, 0];
        let frame = udp(A, B).ip_options(&options).payload(b"data").build();
        let Ok(Parsed::Ip(flow)) = Packet::parse(&frame, &LOCAL_MAC) else { panic!("refused") };
        assert_eq!(usize::from(flow.transport_offset), IP + 20 + options.len());
        assert_eq!((flow.source_port.get(), flow.destination_port.get(), flow.payload_length), (A.1, B.1, 4));
    }

    #[test]
    fn row_37_ip4_option() {
        for options in [[7, 0, 0, 0], [7, 1, 0, 0], [7, 5, 0, 0], [1, 1, 1, 7]] {
            assert_eq!(refusal(&udp(A, B).ip_options(&options).build()), Some(ParseError::Ip4Option), "{options:?}");
        }
    }

    #[test]
    fn row_38_reserved_flag_is_forwarded() {
        let mut frame = poke(plain(), IP + 6, &[0x80]);
        seal(&mut frame);
        let Ok(Parsed::Ip(flow)) = Packet::parse(&frame, &LOCAL_MAC) else { panic!("refused") };
        assert!(flow.reserved_flag);
        let Ok(Parsed::Ip(flow)) = Packet::parse(&plain(), &LOCAL_MAC) else { panic!("refused") };
        assert!(!flow.reserved_flag);
    }

    #[test]
    fn row_39_no_transport_bytes() {
        for protocol in [1, 6, 17, 47] {
            let mut frame = poke(plain(), IP + 9, &[protocol]);
            frame[IP + 2..IP + 4].copy_from_slice(&20u16.to_be_bytes());
            seal(&mut frame);
            assert_eq!(refusal(&frame), Some(ParseError::TransportShort));
        }
    }

    #[test]
    fn row_42_fragment_tiny() {
        let tiny = |transport_length: u16| {
            let mut frame = poke(plain(), IP + 6, &FLAG_MORE_FRAGMENTS.to_be_bytes());
            frame[IP + 2..IP + 4].copy_from_slice(&(20 + transport_length).to_be_bytes());
            seal(&mut frame);
            refusal(&frame)
        };
        assert_eq!(tiny(0), Some(ParseError::FragmentTiny));
        assert_eq!(tiny(8), Some(ParseError::FragmentTiny));
        assert_eq!(tiny(16), Some(ParseError::Fragment));
    }

    #[test]
    fn row_43_fragment_offset1() {
        assert_eq!(changed(IP + 6, &[0, 1]), Some(ParseError::FragmentOffset1));
        assert_eq!(changed(IP + 6, &[0x20, 1]), Some(ParseError::FragmentOffset1));
    }

    #[test]
    fn other_fragments_are_refused() {
        assert_eq!(changed(IP + 6, &[0, 2]), Some(ParseError::Fragment));
        let mut frame = poke(udp(A, B).payload(&[0; 8]).build(), IP + 6, &[0, 1]);
        seal(&mut frame);
        assert_eq!(refusal(&frame), Some(ParseError::Fragment));
    }

    #[test]
    fn unknown_protocol_has_no_ports() {
        let mut frame = poke(plain(), IP + 9, &[47]);
        seal(&mut frame);
        let Ok(Parsed::Ip(flow)) = Packet::parse(&frame, &LOCAL_MAC) else { panic!("refused") };
        assert_eq!(
            (flow.protocol, flow.source_port, flow.destination_port),
            (47, Default::default(), Default::default())
        );
        assert_eq!(flow.payload_length, 24);
    }
}
