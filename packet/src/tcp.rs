//! TCP (RFC 9293 3.1). The checksum isn't verified here: its two ends do that, and a switch only keeps it consistent.

use core::fmt;
use core::mem::offset_of;

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{PROTOCOL_TCP, ParseError, PortBe, checksum};

/// Length of the header without options.
pub const HEADER_LENGTH: usize = size_of::<Header>();
/// Where the checksum stands, in bytes.
pub const CHECKSUM_OFFSET: usize = offset_of!(Header, checksum);
/// The sender has no more to send.
pub const FIN: u8 = 0x01;
/// Opens a connection.
pub const SYN: u8 = 0x02;
/// Ends a connection at once.
pub const RST: u8 = 0x04;
/// To be given to the application now.
pub const PSH: u8 = 0x08;
/// The acknowledgement number counts.
pub const ACK: u8 = 0x10;
/// The urgent pointer counts.
pub const URG: u8 = 0x20;

/// The flags above; the two bits of explicit congestion notification say nothing about a connection's state.
const STATE_FLAGS: u8 = FIN | SYN | RST | PSH | ACK | URG;
const NO_OPTIONS: u8 = (HEADER_LENGTH / 4) as u8;
const OPTION_END: u8 = 0;
const OPTION_NONE: u8 = 1;
/// How most segments' options begin, and usually end: two fillers and a timestamp (RFC 7323, appendix A).
const USUAL_OPTIONS: [u8; 4] = [OPTION_NONE, OPTION_NONE, 8, 10];
const USUAL_OPTIONS_LENGTH: usize = 12;

/// The header without its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Sender's port.
    pub source_port: PortBe,
    /// Receiver's port.
    pub destination_port: PortBe,
    /// Number of the first payload byte, or of the SYN.
    pub sequence: U32,
    /// Next number expected, if ACK is set.
    pub acknowledgement: U32,
    /// Header length in 4-byte words, in the upper half.
    pub data_offset: u8,
    /// The flags named in this module.
    pub flags: u8,
    /// Bytes the sender can take, before scaling.
    pub window: U16,
    /// Over pseudo-header, header and payload.
    pub checksum: U16,
    /// End of urgent data, if URG is set.
    pub urgent: U16,
}

/// Checks a segment: its header, and its payload.
#[inline]
pub fn check(transport: &[u8]) -> Result<(&Header, &[u8]), ParseError> {
    let (header, rest) = Header::ref_from_prefix(transport).map_err(|_| ParseError::TransportShort)?;
    let options_length = usize::from(header.data_offset >> 4).wrapping_sub(usize::from(NO_OPTIONS)).wrapping_mul(4);
    // An offset under 5 wraps round to far past the end.
    let (options, payload) = rest.split_at_checked(options_length).ok_or(ParseError::TcpOffset)?;
    if header.source_port == PortBe::ZERO || header.destination_port == PortBe::ZERO {
        return Err(ParseError::PortZero);
    }
    if !are_flags_possible(header.flags) {
        return Err(ParseError::TcpFlags);
    }
    check_options(options)?;
    Ok((header, payload))
}

/// Whether an endpoint could send these flags together: not none, not FIN+PSH+URG alone, not SYN with FIN or RST.
#[inline]
const fn are_flags_possible(flags: u8) -> bool {
    let flags = flags & STATE_FLAGS;
    flags != 0 && flags != FIN | PSH | URG && !(flags & SYN != 0 && flags & (FIN | RST) != 0)
}

/// Checks that the options' lengths lead to the end of the header.
#[inline]
fn check_options(options: &[u8]) -> Result<(), ParseError> {
    if options.is_empty() || (options.len() == USUAL_OPTIONS_LENGTH && options.starts_with(&USUAL_OPTIONS)) {
        return Ok(());
    }
    walk_options(options)
}

fn walk_options(mut options: &[u8]) -> Result<(), ParseError> {
    loop {
        options = match options {
            [] | [OPTION_END, ..] => return Ok(()),
            [OPTION_NONE, rest @ ..] => rest,
            [_, length @ 2..=u8::MAX, ..] => options.get(usize::from(*length)..).ok_or(ParseError::TcpOption)?,
            _ => return Err(ParseError::TcpOption),
        }
    }
}

impl Header {
    /// A header without options or window, its checksum still to be [sealed](Self::seal).
    #[inline]
    pub fn emit(source_port: PortBe, destination_port: PortBe, sequence: u32, acknowledgement: u32, flags: u8) -> Self {
        Self {
            source_port,
            destination_port,
            sequence: U32::new(sequence),
            acknowledgement: U32::new(acknowledgement),
            data_offset: NO_OPTIONS << 4,
            flags,
            window: U16::ZERO,
            checksum: U16::ZERO,
            urgent: U16::ZERO,
        }
    }

    /// Fills in the checksum; `rest` is the options and payload that follow.
    #[inline]
    pub fn seal(&mut self, source: [u8; 4], destination: [u8; 4], rest: &[u8]) {
        let length = (HEADER_LENGTH + rest.len()) as u16;
        self.checksum = U16::ZERO;
        let pseudo_header = checksum::pseudo_header(source, destination, PROTOCOL_TCP, length);
        let sum = pseudo_header + checksum::sum(self.as_bytes()) + checksum::sum(rest);
        self.checksum = U16::new(checksum::finish(sum));
    }
}

impl fmt::Display for Header {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "TCP {} -> {}", self.source_port, self.destination_port)?;
        let names = [(SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (PSH, "PSH"), (ACK, "ACK"), (URG, "URG")];
        for (_, name) in names.into_iter().filter(|(flag, _)| self.flags & flag != 0) {
            write!(out, " {name}")?;
        }
        let (sequence, acknowledgement) = (self.sequence, self.acknowledgement);
        write!(out, " sequence {sequence} acknowledgement {acknowledgement} header {}", self.data_offset >> 4 << 2)?;
        write!(out, " window {} urgent {} checksum {:#06x}", self.window, self.urgent, self.checksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{LOCAL_MAC, poke, refusal, tcp};
    use crate::{Packet, Parsed};

    const A: ([u8; 4], u16) = ([198, 18, 0, 1], 4000);
    const B: ([u8; 4], u16) = ([198, 18, 1, 1], 80);
    /// Where the TCP header starts in an untagged frame without IP options.
    const TCP: usize = 34;

    #[test]
    fn fields_of_a_segment() {
        let frame = tcp(A, B, ACK | PSH).sequence(7).acknowledgement(9).payload(b"data").ttl(3).build();
        let Ok(Parsed::Ip(flow)) = Packet::parse(&frame, &LOCAL_MAC) else { panic!("refused") };
        assert_eq!((flow.source_port.get(), flow.destination_port.get()), (4000, 80));
        assert_eq!(flow.tcp_flags, ACK | PSH);
        assert_eq!((flow.payload_length, flow.ttl, flow.protocol), (4, 3, PROTOCOL_TCP));
        assert_eq!((flow.network_offset, flow.transport_offset), (14, 34));
    }

    #[test]
    fn row_39_transport_short() {
        let frame = tcp(A, B, ACK).ip_payload_length(19).build();
        assert_eq!(refusal(&frame), Some(ParseError::TransportShort));
    }

    #[test]
    fn row_81_tcp_offset() {
        for words in (0..5).chain(7..16) {
            let frame = poke(tcp(A, B, ACK).payload(b"data").build(), TCP + 12, &[words << 4]);
            assert_eq!(refusal(&frame), Some(ParseError::TcpOffset), "{words}");
        }
        // Behind the segment there is padding: it doesn't count.
        let frame = poke(tcp(A, B, ACK).padding(8).build(), TCP + 12, &[6 << 4]);
        assert_eq!(refusal(&frame), Some(ParseError::TcpOffset));
    }

    #[test]
    fn row_83_tcp_option() {
        for options in [[3, 0, 0, 0], [3, 1, 0, 0], [3, 5, 0, 0], [1, 1, 1, 2]] {
            assert_eq!(
                refusal(&tcp(A, B, SYN).tcp_options(&options).build()),
                Some(ParseError::TcpOption),
                "{options:?}"
            );
        }
        for options in [&[1; 4][..], &[2, 4, 5, 0xb4], &[0, 9, 9, 9], &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0]] {
            assert_eq!(refusal(&tcp(A, B, SYN).tcp_options(options).build()), None, "{options:?}");
        }
        // As it usually begins, but with more behind it.
        let options = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 5, 10, 0, 0];
        assert_eq!(refusal(&tcp(A, B, ACK).tcp_options(&options).build()), Some(ParseError::TcpOption));
    }

    #[test]
    fn row_84_tcp_flags() {
        for flags in [0, 0xc0, FIN | PSH | URG, SYN | FIN, SYN | FIN | ACK, SYN | RST, 0xff] {
            assert_eq!(refusal(&tcp(A, B, flags).build()), Some(ParseError::TcpFlags), "{flags:#x}");
        }
        for flags in [SYN, SYN | ACK, SYN | 0xc0, ACK, FIN | ACK, RST, RST | ACK, FIN | PSH | URG | ACK] {
            assert_eq!(refusal(&tcp(A, B, flags).build()), None, "{flags:#x}");
        }
    }

    #[test]
    fn row_85_port_zero() {
        assert_eq!(refusal(&tcp((A.0, 0), B, ACK).build()), Some(ParseError::PortZero));
        assert_eq!(refusal(&tcp(A, (B.0, 0), ACK).build()), Some(ParseError::PortZero));
    }
}
