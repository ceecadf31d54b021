//! Wire formats: parsing frames, and re-writing them in place.
//!
//! Owns no memory: every function works on the bytes of one frame in the buffer pool, which only the switcher
//! that holds the frame accesses. It is "read headers" and "re-write" of the patent's Fig. 6.
//!
//! Guarantees, the same in every file here:
//! - No allocation, no system call, no clock, and no panic whatever the bytes are (`testing` excepted: it builds frames).
//! - Each protocol file has the same order: constants, header (the fields), checks, accessors, emit, display, tests.
//!   Headers are unaligned views over the frame's bytes in network order; `check` is the only way to one of them while a
//!   frame is parsed. A header prints as one line ([`print`]), with every field but the bits that no check looks at.
//! - [`Packet::parse`] says why a frame is refused with one [`ParseError`]. When it answers with a [`Flow`], every
//!   offset in it lies inside that frame.
//! - [`rewrite`] and [`reply`] take a frame and the flow parsed from it. Given a frame too short for the flow they leave
//!   what they can't reach alone, so a wrong pairing is a wrong frame and never the end of the process.
#![forbid(unsafe_code)]

pub mod arp;
mod buffer;
pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod ipv4;
mod parse_error;
pub mod print;
pub mod quote;
pub mod reply;
pub mod rewrite;
pub mod tcp;
pub mod testing;
pub mod udp;

pub use arp::ArpFields;
pub use buffer::Buffer;
pub use parse_error::ParseError;
pub use shunt_address::{Address, PortBe};

/// IPv4 protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
pub use shunt_address::{TCP as PROTOCOL_TCP, UDP as PROTOCOL_UDP};

/// What the filter needs to know about an IP packet, copied out of its headers once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Source address, IPv4 as `::ffff:a.b.c.d`.
    pub source: Address,
    /// Destination address, IPv4 as `::ffff:a.b.c.d`.
    pub destination: Address,
    /// TCP or UDP source port; zero for other protocols.
    pub source_port: PortBe,
    /// TCP or UDP destination port; zero for other protocols.
    pub destination_port: PortBe,
    /// Where the IP header starts: after Ethernet and priority tags.
    pub network_offset: u16,
    /// Where the transport header starts: after IP options.
    pub transport_offset: u16,
    /// Where the IP packet ends: the frame's length without Ethernet padding.
    pub end: u16,
    /// Bytes after the transport header; for a protocol without one known here, all bytes after the IP header.
    pub payload_length: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// TCP flags, the bits named in [`tcp`]; zero for other protocols.
    pub tcp_flags: u8,
    /// Time to live as received.
    pub ttl: u8,
    /// The reserved bit of the IPv4 flags was set: such a packet is forwarded, and counted.
    pub reserved_flag: bool,
}

/// A frame that passed every check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// An ARP request or reply.
    Arp(ArpFields),
    /// An unfragmented IPv4 packet.
    Ip(Flow),
}

/// The parser; a namespace without values.
pub struct Packet;

impl Packet {
    /// Reads a frame received by the interface with address `interface_mac`.
    #[inline]
    pub fn parse(frame: &[u8], interface_mac: &[u8; 6]) -> Result<Parsed, ParseError> {
        // Offsets are 16 bits wide; one buffer never holds more than this.
        if frame.len() > usize::from(u16::MAX) {
            return Err(ParseError::EthJumbo);
        }
        let (link, network) = ethernet::check(frame, interface_mac)?;
        if link.ethertype == ethernet::TYPE_IPV4 {
            read_flow(&link, network).map(Parsed::Ip)
        } else {
            arp::check(network, link.source).map(Parsed::Arp)
        }
    }

    /// Parses only what the box's own kernel doesn't check itself: fragments, options and any transport protocol pass, and ports
    /// are zero.
    #[cold]
    pub fn parse_whole(frame: &[u8], interface_mac: &[u8; 6]) -> Result<Flow, ParseError> {
        let (link, network) = ethernet::check(frame, interface_mac)?;
        if link.ethertype != ethernet::TYPE_IPV4 {
            return Err(ParseError::EthType);
        }
        let (header, transport) = ipv4::check_whole(network)?;
        if link.group && ipv4::is_unicast(header.destination) {
            return Err(ParseError::L2Broadcast);
        }
        Ok(unread_flow(&link, header, transport))
    }
}

/// The flow of an IPv4 packet: `network` is the frame from its IP header on.
#[inline]
fn read_flow(link: &ethernet::Link<'_>, network: &[u8]) -> Result<Flow, ParseError> {
    let (header, transport) = ipv4::check(network)?;
    if link.group && ipv4::is_unicast(header.destination) {
        return Err(ParseError::L2Broadcast);
    }
    let mut flow = unread_flow(link, header, transport);
    match header.protocol {
        PROTOCOL_TCP => {
            let (tcp, payload) = tcp::check(transport)?;
            flow.source_port = tcp.source_port;
            flow.destination_port = tcp.destination_port;
            flow.tcp_flags = tcp.flags;
            flow.payload_length = payload.len() as u16;
        }
        PROTOCOL_UDP => {
            let (udp, payload) = udp::check(transport)?;
            flow.source_port = udp.source_port;
            flow.destination_port = udp.destination_port;
            flow.payload_length = payload.len() as u16;
        }
        PROTOCOL_ICMP => flow.payload_length = icmp::check(transport)?.1.len() as u16,
        _ => {}
    }
    Ok(flow)
}

/// The flow as far as the IP header tells it, without the transport's part.
#[inline]
fn unread_flow(link: &ethernet::Link<'_>, header: &ipv4::Header, transport: &[u8]) -> Flow {
    let transport_offset = link.network_offset + header.header_length();
    Flow {
        source: Address::from_v4(header.source),
        destination: Address::from_v4(header.destination),
        source_port: PortBe::ZERO,
        destination_port: PortBe::ZERO,
        network_offset: link.network_offset as u16,
        transport_offset: transport_offset as u16,
        end: (transport_offset + transport.len()) as u16,
        payload_length: transport.len() as u16,
        protocol: header.protocol,
        tcp_flags: 0,
        ttl: header.ttl,
        reserved_flag: header.has_reserved_flag(),
    }
}

/// The IPv4 bytes of an address known to be a mapped one: the parser makes no other yet.
#[inline]
pub const fn v4_part(address: Address) -> [u8; 4] {
    let [.., a, b, c, d] = address.0;
    [a, b, c, d]
}

#[cfg(test)]
mod tests;
