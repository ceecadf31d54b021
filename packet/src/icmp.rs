//! ICMP (RFC 792): echo and errors.

use core::fmt;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Flow, PROTOCOL_ICMP, ParseError, checksum};

/// Length of the header.
pub const HEADER_LENGTH: usize = size_of::<Header>();
/// Echo reply.
pub const TYPE_ECHO_REPLY: u8 = 0;
/// Destination unreachable.
pub const TYPE_UNREACHABLE: u8 = 3;
/// Source quench, deprecated by RFC 6633.
pub const TYPE_SOURCE_QUENCH: u8 = 4;
/// Redirect.
pub const TYPE_REDIRECT: u8 = 5;
/// Echo request.
pub const TYPE_ECHO_REQUEST: u8 = 8;
/// Time exceeded.
pub const TYPE_TIME_EXCEEDED: u8 = 11;
/// Parameter problem.
pub const TYPE_PARAMETER_PROBLEM: u8 = 12;
/// Code of [`TYPE_UNREACHABLE`]: fragmentation needed and DF set (RFC 1191).
pub const CODE_TOO_BIG: u8 = 4;

/// The header that all messages share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum over header and payload.
    pub checksum: U16,
    /// Depends on the type: identifier and sequence number of an echo.
    pub rest: [u8; 4],
}

/// Checks a message: its header, and what follows it.
#[cold]
pub fn check(transport: &[u8]) -> Result<(&Header, &[u8]), ParseError> {
    let (header, payload) = Header::ref_from_prefix(transport).map_err(|_| ParseError::TransportShort)?;
    if !checksum::verify(checksum::sum(transport)) {
        return Err(ParseError::IcmpChecksum);
    }
    Ok((header, payload))
}

impl Header {
    /// The header of an ICMP packet.
    #[cold]
    pub fn of(frame: &[u8], flow: &Flow) -> Option<Self> {
        let message = frame.get(usize::from(flow.transport_offset)..usize::from(flow.end))?;
        (flow.protocol == PROTOCOL_ICMP).then(|| Self::read_from_prefix(message).ok())?.map(|(header, _)| header)
    }

    /// Whether this is an echo request.
    #[inline]
    pub fn is_echo_request(&self) -> bool {
        self.kind == TYPE_ECHO_REQUEST && self.code == 0
    }

    /// Whether it is an error, which quotes the beginning of the packet that caused it (RFC 1122 section 3.2.2):
    /// unreachable, source quench, redirect, time exceeded, parameter problem.
    #[inline]
    pub fn is_error(&self) -> bool {
        self.is_about_the_way() || matches!(self.kind, TYPE_SOURCE_QUENCH | TYPE_REDIRECT)
    }

    /// Whether it is an error that a translator passes on to the packet's sender (RFC 5508 section 4).
    #[inline]
    pub fn is_about_the_way(&self) -> bool {
        matches!(self.kind, TYPE_UNREACHABLE | TYPE_TIME_EXCEEDED | TYPE_PARAMETER_PROBLEM)
    }

    /// The MTU that "too big" names (RFC 1191 section 4).
    #[inline]
    pub fn too_big_mtu(&self) -> Option<u16> {
        let is_too_big = self.kind == TYPE_UNREACHABLE && self.code == CODE_TOO_BIG;
        is_too_big.then_some(u16::from_be_bytes([self.rest[2], self.rest[3]]))
    }

    /// "Time to live exceeded in transit", its checksum still to be [sealed](Self::seal).
    #[inline]
    pub fn emit_time_exceeded() -> Self {
        Self { kind: TYPE_TIME_EXCEEDED, code: 0, checksum: U16::ZERO, rest: [0; 4] }
    }

    /// Fills in the checksum over the header and `payload`.
    #[inline]
    pub fn seal(&mut self, payload: &[u8]) {
        self.checksum = U16::ZERO;
        self.checksum = U16::new(checksum::finish(checksum::sum(self.as_bytes()) + checksum::sum(payload)));
    }
}

impl fmt::Display for Header {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = u32::from_be_bytes(self.rest);
        write!(out, "ICMP type {} code {} rest {rest:#010x} checksum {:#06x}", self.kind, self.code, self.checksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{LOCAL_MAC, icmp_echo, poke, refusal};
    use crate::{PROTOCOL_ICMP, Packet, Parsed, PortBe};

    const A: [u8; 4] = [198, 18, 0, 1];
    const B: [u8; 4] = [198, 18, 1, 1];

    #[test]
    fn row_39_transport_short() {
        assert_eq!(refusal(&icmp_echo(A, B).ip_payload_length(7).build()), Some(ParseError::TransportShort));
    }

    #[test]
    fn row_68_icmp_checksum() {
        let frame = icmp_echo(A, B).payload(b"odd").build();
        assert_eq!(refusal(&frame), None);
        let last = frame.len() - 1;
        assert_eq!(refusal(&poke(frame, last, b"x")), Some(ParseError::IcmpChecksum));
    }

    #[test]
    fn an_echo_has_no_ports() {
        let frame = icmp_echo(A, B).payload(b"ping").build();
        let Ok(Parsed::Ip(flow)) = Packet::parse(&frame, &LOCAL_MAC) else { panic!("refused") };
        assert_eq!((flow.protocol, flow.source_port, flow.payload_length), (PROTOCOL_ICMP, PortBe::ZERO, 4));
    }
}
