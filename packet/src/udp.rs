//! UDP (RFC 768).

use core::fmt;
use core::mem::offset_of;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{PROTOCOL_UDP, ParseError, PortBe, checksum};

/// Length of the header.
pub const HEADER_LENGTH: usize = size_of::<Header>();
/// Where the checksum stands, in bytes.
pub const CHECKSUM_OFFSET: usize = offset_of!(Header, checksum);

/// The header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Sender's port.
    pub source_port: PortBe,
    /// Receiver's port.
    pub destination_port: PortBe,
    /// Header and payload, in bytes.
    pub length: U16,
    /// Over pseudo-header, header and payload; 0 if the sender made none.
    pub checksum: U16,
}

/// Checks a datagram: its header, and its payload.
#[inline]
pub fn check(transport: &[u8]) -> Result<(&Header, &[u8]), ParseError> {
    let (header, rest) = Header::ref_from_prefix(transport).map_err(|_| ParseError::TransportShort)?;
    let payload_length = usize::from(header.length.get()).wrapping_sub(HEADER_LENGTH);
    // A length under 8 wraps round to far past the end.
    let payload = rest.get(..payload_length).ok_or(ParseError::UdpLength)?;
    if header.source_port == PortBe::ZERO || header.destination_port == PortBe::ZERO {
        return Err(ParseError::PortZero);
    }
    Ok((header, payload))
}

/// A computed checksum as it is sent: 0 would mean that there is none.
#[inline]
pub const fn wire_checksum(computed: u16) -> u16 {
    if computed == 0 { 0xffff } else { computed }
}

impl Header {
    /// A header for `payload_length` bytes, its checksum absent until [sealed](Self::seal).
    #[inline]
    pub fn emit(source_port: PortBe, destination_port: PortBe, payload_length: u16) -> Self {
        Self {
            source_port,
            destination_port,
            length: U16::new(payload_length.saturating_add(HEADER_LENGTH as u16)),
            checksum: U16::ZERO,
        }
    }

    /// Fills in the checksum over the header and `payload`.
    #[inline]
    pub fn seal(&mut self, source: [u8; 4], destination: [u8; 4], payload: &[u8]) {
        self.checksum = U16::ZERO;
        let pseudo_header = checksum::pseudo_header(source, destination, PROTOCOL_UDP, self.length.get());
        let sum = pseudo_header + checksum::sum(self.as_bytes()) + checksum::sum(payload);
        self.checksum = U16::new(wire_checksum(checksum::finish(sum)));
    }
}

impl fmt::Display for Header {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, destination) = (self.source_port, self.destination_port);
        write!(out, "UDP {source} -> {destination} length {} checksum {:#06x}", self.length, self.checksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{LOCAL_MAC, poke, refusal, udp};
    use crate::{Packet, Parsed};

    const A: ([u8; 4], u16) = ([198, 18, 0, 1], 4000);
    const B: ([u8; 4], u16) = ([198, 18, 1, 1], 53);
    /// Where the UDP header starts in an untagged frame without IP options.
    const UDP: usize = 34;

    #[test]
    fn row_39_transport_short() {
        assert_eq!(refusal(&udp(A, B).ip_payload_length(7).build()), Some(ParseError::TransportShort));
    }

    #[test]
    fn row_85_port_zero() {
        assert_eq!(refusal(&udp((A.0, 0), B).build()), Some(ParseError::PortZero));
        assert_eq!(refusal(&udp(A, (B.0, 0)).build()), Some(ParseError::PortZero));
    }

    #[test]
    fn row_97_udp_length() {
        for length in [0u16, 7, 13, 0xffff] {
            let frame = poke(udp(A, B).payload(b"data").padding(8).build(), UDP + 4, &length.to_be_bytes());
            assert_eq!(refusal(&frame), Some(ParseError::UdpLength), "{length}");
        }
    }

    #[test]
    fn length_under_the_ip_packets_is_the_payloads() {
        let frame = poke(udp(A, B).payload(b"data").build(), UDP + 4, &10u16.to_be_bytes());
        let Ok(Parsed::Ip(flow)) = Packet::parse(&frame, &LOCAL_MAC) else { panic!("refused") };
        assert_eq!(flow.payload_length, 2);
        assert_eq!(usize::from(flow.end), frame.len());
    }

    #[test]
    fn row_98_no_checksum_is_accepted() {
        assert_eq!(refusal(&udp(A, B).without_checksum().build()), None);
    }

    #[test]
    fn row_101_empty_is_accepted() {
        let Ok(Parsed::Ip(flow)) = Packet::parse(&udp(A, B).build(), &LOCAL_MAC) else { panic!("refused") };
        assert_eq!((flow.payload_length, flow.protocol, flow.tcp_flags), (0, PROTOCOL_UDP, 0));
    }
}
