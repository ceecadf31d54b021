//! A frame as text: one line a header, then the bytes that belong to none. For messages of tests and tools, so that two
//! frames that differ can be compared as packets.
//!
//! ```
//! use shunt_packet::{print::Printed, tcp::SYN, testing::tcp};
//! let frame = tcp(([198, 18, 0, 1], 4000), ([198, 18, 1, 1], 80), SYN).payload(b"data").build();
//! let text = Printed(&frame).to_string();
//! assert!(text.contains("\n  IPv4 198.18.0.1 -> 198.18.1.1 protocol 6 ttl 64"));
//! assert!(text.ends_with("\n  4 bytes 64 61 74 61 \"data\"\n"));
//! ```

use core::fmt;

use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::{PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, arp, ethernet, icmp, ipv4, tcp, udp};

/// A frame that prints as its headers. Any bytes are allowed: what is no header is printed as bytes.
pub struct Printed<'a>(pub &'a [u8]);

impl fmt::Display for Printed<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((header, mut rest)) = print_header::<ethernet::Header>(out, self.0)? else {
            return print_bytes(out, self.0);
        };
        let mut ethertype = header.ethertype.get();
        while matches!(ethertype, ethernet::TYPE_VLAN | ethernet::TYPE_SERVICE_VLAN) {
            let Some((tag, after)) = print_header::<ethernet::Tag>(out, rest)? else { break };
            (ethertype, rest) = (tag.ethertype.get(), after);
        }
        match ethertype {
            ethernet::TYPE_IPV4 => print_ipv4(out, rest),
            ethernet::TYPE_ARP => print_header_and_bytes::<arp::Header>(out, rest),
            _ => print_bytes(out, rest),
        }
    }
}

/// A header of this crate: a view of bytes that prints as a line.
trait Header: FromBytes + KnownLayout + Immutable + Copy + fmt::Display {}
impl<T: FromBytes + KnownLayout + Immutable + Copy + fmt::Display> Header for T {}

/// Prints the header that starts `bytes`, if they are long enough for one; the header, and what follows it.
fn print_header<'a, T: Header>(
    out: &mut fmt::Formatter<'_>,
    bytes: &'a [u8],
) -> Result<Option<(T, &'a [u8])>, fmt::Error> {
    let Ok((header, rest)) = T::read_from_prefix(bytes) else { return Ok(None) };
    writeln!(out, "  {header}")?;
    Ok(Some((header, rest)))
}

/// A header behind which there is only payload.
fn print_header_and_bytes<T: Header>(out: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let rest = print_header::<T>(out, bytes)?.map_or(bytes, |(_, rest)| rest);
    print_bytes(out, rest)
}

/// An IPv4 packet, or as much of one as an ICMP error quotes; what follows its end is printed apart.
fn print_ipv4(out: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let Some((header, rest)) = print_header::<ipv4::Header>(out, bytes)? else {
        return print_bytes(out, bytes);
    };
    let after_header = |offset: usize| offset.saturating_sub(ipv4::HEADER_LENGTH).min(rest.len());
    let end = after_header(usize::from(header.total_length.get()));
    let (options, _) = rest.split_at(after_header(header.header_length()).min(end));
    print_options(out, options)?;
    print_transport(out, header.protocol, &rest[options.len()..end])?;
    print_bytes(out, &rest[end..])
}

fn print_transport(out: &mut fmt::Formatter<'_>, protocol: u8, bytes: &[u8]) -> fmt::Result {
    match protocol {
        PROTOCOL_TCP => {
            let Some((header, rest)) = print_header::<tcp::Header>(out, bytes)? else {
                return print_bytes(out, bytes);
            };
            let options = usize::from(header.data_offset >> 4 << 2).saturating_sub(tcp::HEADER_LENGTH).min(rest.len());
            print_options(out, &rest[..options])?;
            print_bytes(out, &rest[options..])
        }
        PROTOCOL_UDP => print_header_and_bytes::<udp::Header>(out, bytes),
        PROTOCOL_ICMP => print_icmp(out, bytes),
        _ => print_bytes(out, bytes),
    }
}

fn print_icmp(out: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    match print_header::<icmp::Header>(out, bytes)? {
        Some((header, quote)) if header.is_error() => print_ipv4(out, quote),
        Some((_, payload)) => print_bytes(out, payload),
        None => print_bytes(out, bytes),
    }
}

fn print_options(out: &mut fmt::Formatter<'_>, options: &[u8]) -> fmt::Result {
    if options.is_empty() { Ok(()) } else { writeln!(out, "  options {options:02x?}") }
}

/// Bytes that are no header, in hexadecimal and, where all can be printed, as text.
fn print_bytes(out: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    if bytes.is_empty() {
        return Ok(());
    }
    write!(out, "  {} bytes", bytes.len())?;
    for byte in bytes {
        write!(out, " {byte:02x}")?;
    }
    match core::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|c| c.is_ascii_graphic() || c == ' ') => writeln!(out, " {text:?}"),
        _ => writeln!(out),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{LOCAL_MAC, PEER_MAC, arp_request, icmp_echo, tcp, udp};
    use crate::tests::any_frame;

    const A: ([u8; 4], u16) = ([198, 18, 0, 1], 4000);
    const B: ([u8; 4], u16) = ([198, 18, 1, 1], 80);

    fn lines(frame: &[u8]) -> Vec<String> {
        Printed(frame).to_string().lines().map(|line| line.trim_start().to_owned()).collect()
    }

    #[test]
    fn an_error_reads_as_a_packet_in_a_packet() {
        let cause = tcp(A, B, tcp::SYN | tcp::ACK).sequence(7).tcp_options(&[2, 4, 5, 0xb4]).ttl(3).build();
        let frame = icmp_echo(B.0, A.0).icmp(3, 4).sequence(1400).payload(&cause[14..]).padding(2).vlan(0).build();
        assert_eq!(
            lines(&frame),
            [
                "Ethernet 02:00:00:00:00:09 -> 02:00:00:00:00:01 type 0x8100",
                "VLAN 0 priority 0 type 0x0800",
                "IPv4 198.18.1.1 -> 198.18.0.1 protocol 1 ttl 64 header 20 of 72 bytes class 0x00 id 0 DF offset 0 checksum 0xad8e",
                "ICMP type 3 code 4 rest 0x00010578 checksum 0x84c8",
                "IPv4 198.18.0.1 -> 198.18.1.1 protocol 6 ttl 3 header 20 of 44 bytes class 0x00 id 0 DF offset 0 checksum 0xeaa5",
                "TCP 4000 -> 80 SYN ACK sequence 7 acknowledgement 0 header 24 window 0 urgent 0 checksum 0xfaf8",
                "options [02, 04, 05, b4]",
                "2 bytes a5 a5",
            ]
        );
    }

    #[test]
    fn arp_and_udp_are_printed_with_their_names() {
        assert_eq!(
            lines(&arp_request(PEER_MAC, A.0, B.0))[1],
            "ARP request 02:00:00:00:00:09 198.18.0.1 -> 00:00:00:00:00:00 198.18.1.1"
        );
        let frame = udp(A, B).without_checksum().payload(b"a question").build();
        let expected =
            ["UDP 4000 -> 80 length 18 checksum 0x0000", "10 bytes 61 20 71 75 65 73 74 69 6f 6e \"a question\""];
        assert_eq!(lines(&frame)[2..], expected);
    }

    #[test]
    fn what_is_no_header_is_printed_as_bytes() {
        assert_eq!(lines(&LOCAL_MAC), ["6 bytes 02 00 00 00 00 01"]);
        assert_eq!(lines(&[]), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn any_bytes_are_printed(mut frame in any_frame(), keep in 0..200usize, at in 0..80usize, byte in any::<u8>()) {
            if let Some(target) = frame.get_mut(at) {
                *target = byte;
            }
            frame.truncate(keep);
            prop_assert_eq!(Printed(&frame).to_string().is_empty(), frame.is_empty());
        }
    }
}
