//! ICMP (RFC 792): as much as echoes and errors need.

use core::fmt;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Flow, PROTOCOL_ICMP, ParseError, checksum};

/// Length of the header.
pub const HEADER_LENGTH: usize = size_of::<Header>();
/// Answer to an echo request.
pub const TYPE_ECHO_REPLY: u8 = 0;
/// The packet didn't get there.
pub const TYPE_UNREACHABLE: u8 = 3;
/// Asks to send less; nobody may any more (RFC 6633).
pub const TYPE_SOURCE_QUENCH: u8 = 4;
/// Names a better router.
pub const TYPE_REDIRECT: u8 = 5;
/// Asks for the same bytes back.
pub const TYPE_ECHO_REQUEST: u8 = 8;
/// The time to live was used up.
pub const TYPE_TIME_EXCEEDED: u8 = 11;
/// The IP header is wrong.
pub const TYPE_PARAMETER_PROBLEM: u8 = 12;
/// Of [`TYPE_UNREACHABLE`]: too big for the way, and not to be cut (RFC 1191).
pub const CODE_TOO_BIG: u8 = 4;

/// The header that all messages share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    /// What the message is.
    pub kind: u8,
    /// Which of its kind.
    pub code: u8,
    /// Over header and payload.
    pub checksum: U16,
    /// Depends on the kind: identifier and sequence number of an echo.
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

    /// Whether this asks for an echo.
    #[inline]
    pub fn is_echo_request(&self) -> bool {
        self.kind == TYPE_ECHO_REQUEST && self.code == 0
    }

    /// Whether it tells the sender of a packet what became of it, with the packet's beginning as payload (RFC 1122
    /// 3.2.2): unreachable, source quench, redirect, time exceeded, parameter problem.
    #[inline]
    pub fn is_error(&self) -> bool {
        self.is_about_the_way() || matches!(self.kind, TYPE_SOURCE_QUENCH | TYPE_REDIRECT)
    }

    /// Whether it is an error that concerns the packet's sender, wherever that is: one that a translator passes on (RFC
    /// 5508 section 4).
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
