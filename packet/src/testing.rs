//! Frames for tests and benches, here and in other crates: named parts in, bytes with right checksums out.
//!
//! Not for the packet path: this allocates, and panics on frames that its callers promised to be good.
//!
//! ```
//! use shunt_packet::{tcp::SYN, testing::tcp};
//! let frame = tcp(([198, 18, 0, 1], 4000), ([198, 18, 1, 1], 80), SYN).sequence(7).payload(b"data").build();
//! assert_eq!(frame.len(), 14 + 20 + 20 + 4);
//! ```

use core::fmt;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, IntoBytes};

use super::{
    Flow, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, Packet, ParseError, Parsed, PortBe, arp, checksum, ethernet, icmp,
    ipv4, print::Printed, tcp as tcp_wire, udp as udp_wire,
};

/// Address of the interface that frames are built for, unless said otherwise.
pub const LOCAL_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// Address that frames are built to come from, unless said otherwise.
pub const PEER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x09];

/// An IPv4 address and a port.
pub type Endpoint = ([u8; 4], u16);

/// A frame being described; [`build`](Self::build) makes its bytes.
#[derive(Clone, Debug)]
pub struct FrameBuilder {
    destination_mac: [u8; 6],
    source_mac: [u8; 6],
    vlans: Vec<u16>,
    source: Endpoint,
    destination: Endpoint,
    protocol: u8,
    ttl: u8,
    ip_options: Vec<u8>,
    ip_payload_length: Option<u16>,
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    tcp_options: Vec<u8>,
    payload: Vec<u8>,
    has_checksum: bool,
    padding: usize,
    icmp: (u8, u8),
    icmp_rest: Option<[u8; 4]>,
}

/// A TCP segment with the flags named in [`super::tcp`].
pub fn tcp(source: Endpoint, destination: Endpoint, flags: u8) -> FrameBuilder {
    FrameBuilder { flags, ..FrameBuilder::new(source, destination, PROTOCOL_TCP) }
}

/// A UDP datagram.
pub fn udp(source: Endpoint, destination: Endpoint) -> FrameBuilder {
    FrameBuilder::new(source, destination, PROTOCOL_UDP)
}

/// An ICMP echo request.
pub fn icmp_echo(source: [u8; 4], destination: [u8; 4]) -> FrameBuilder {
    FrameBuilder::new((source, 0), (destination, 0), PROTOCOL_ICMP)
}

/// A broadcast ARP request, whole.
pub fn arp_request(sender_mac: [u8; 6], sender_address: [u8; 4], target_address: [u8; 4]) -> Vec<u8> {
    let ethernet = ethernet::Header {
        destination: ethernet::BROADCAST,
        source: sender_mac,
        ethertype: U16::new(ethernet::TYPE_ARP),
    };
    let arp = arp::Header::request(sender_mac, sender_address, target_address);
    [ethernet.as_bytes(), arp.as_bytes()].concat()
}

/// The reply to such a request, whole.
pub fn arp_reply(
    sender_mac: [u8; 6],
    sender_address: [u8; 4],
    target_mac: [u8; 6],
    target_address: [u8; 4],
) -> Vec<u8> {
    let ethertype = U16::new(ethernet::TYPE_ARP);
    let ethernet = ethernet::Header { destination: target_mac, source: sender_mac, ethertype };
    let operation = U16::new(arp::OPERATION_REPLY);
    let request = arp::Header::request(sender_mac, sender_address, target_address);
    let arp = arp::Header { operation, target_mac, ..request };
    [ethernet.as_bytes(), arp.as_bytes()].concat()
}

impl FrameBuilder {
    fn new(source: Endpoint, destination: Endpoint, protocol: u8) -> Self {
        Self {
            destination_mac: LOCAL_MAC,
            source_mac: PEER_MAC,
            vlans: Vec::new(),
            source,
            destination,
            protocol,
            ttl: ipv4::TTL_DEFAULT,
            ip_options: Vec::new(),
            ip_payload_length: None,
            sequence: 0,
            acknowledgement: 0,
            flags: 0,
            tcp_options: Vec::new(),
            payload: Vec::new(),
            has_checksum: true,
            padding: 0,
            icmp: (icmp::TYPE_ECHO_REQUEST, 0),
            icmp_rest: None,
        }
    }

    /// Ethernet destination.
    pub fn to_mac(mut self, mac: [u8; 6]) -> Self {
        self.destination_mac = mac;
        self
    }

    /// Ethernet source.
    pub fn from_mac(mut self, mac: [u8; 6]) -> Self {
        self.source_mac = mac;
        self
    }

    /// One more VLAN tag, inside those there are.
    pub fn vlan(mut self, id: u16) -> Self {
        self.vlans.push(id);
        self
    }

    /// IP time to live.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// IP options, a multiple of 4 bytes, at most 40.
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        assert!(options.len().is_multiple_of(4) && options.len() <= 40, "IP options of {} bytes", options.len());
        self.ip_options = options.to_vec();
        self
    }

    /// Claims another length in the IP header than what follows it.
    pub fn ip_payload_length(mut self, length: u16) -> Self {
        self.ip_payload_length = Some(length);
        self
    }

    /// TCP sequence number; an echo's takes the lower half, and so does the MTU of "too big".
    pub fn sequence(mut self, sequence: u32) -> Self {
        self.sequence = sequence;
        self
    }

    /// TCP acknowledgement number.
    pub fn acknowledgement(mut self, acknowledgement: u32) -> Self {
        self.acknowledgement = acknowledgement;
        self
    }

    /// TCP options, a multiple of 4 bytes, at most 40.
    pub fn tcp_options(mut self, options: &[u8]) -> Self {
        assert!(options.len().is_multiple_of(4) && options.len() <= 40, "TCP options of {} bytes", options.len());
        self.tcp_options = options.to_vec();
        self
    }

    /// ICMP type and code, in place of an echo request's.
    pub fn icmp(mut self, kind: u8, code: u8) -> Self {
        self.icmp = (kind, code);
        self
    }

    /// The second half of the ICMP header, in place of an identifier and the sequence number.
    pub fn icmp_rest(mut self, rest: [u8; 4]) -> Self {
        self.icmp_rest = Some(rest);
        self
    }

    /// What follows the transport header.
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// Leaves the UDP checksum out.
    pub fn without_checksum(mut self) -> Self {
        self.has_checksum = false;
        self
    }

    /// Bytes behind the IP packet, as Ethernet's minimum length makes them.
    pub fn padding(mut self, length: usize) -> Self {
        self.padding = length;
        self
    }

    /// The frame.
    pub fn build(&self) -> Vec<u8> {
        let mut frame = self.link_header();
        let transport = self.transport();
        frame.extend(self.ip_header(transport.len() as u16));
        frame.extend(transport);
        // Padding isn't always zero on a real wire.
        frame.resize(frame.len() + self.padding, 0xa5);
        frame
    }

    fn link_header(&self) -> Vec<u8> {
        let mut header = [self.destination_mac, self.source_mac].concat();
        for vlan in &self.vlans {
            header.extend(ethernet::TYPE_VLAN.to_be_bytes());
            header.extend(vlan.to_be_bytes());
        }
        header.extend(ethernet::TYPE_IPV4.to_be_bytes());
        header
    }

    fn ip_header(&self, transport_length: u16) -> Vec<u8> {
        let length = self.ip_payload_length.unwrap_or(transport_length);
        let header = ipv4::Header::emit(self.source.0, self.destination.0, self.protocol, length);
        let mut bytes = [header.as_bytes(), &self.ip_options].concat();
        let ip = ipv4::Header::mut_from_prefix(&mut bytes).expect("a whole header").0;
        ip.version_length += (self.ip_options.len() / 4) as u8;
        ip.total_length += self.ip_options.len() as u16;
        ip.ttl = self.ttl;
        seal_ip(&mut bytes);
        bytes
    }

    fn transport(&self) -> Vec<u8> {
        let (source_port, destination_port) = (PortBe::new(self.source.1), PortBe::new(self.destination.1));
        match self.protocol {
            PROTOCOL_TCP => {
                let mut header = tcp_wire::Header::emit(
                    source_port,
                    destination_port,
                    self.sequence,
                    self.acknowledgement,
                    self.flags,
                );
                header.data_offset += (self.tcp_options.len() as u8 / 4) << 4;
                let rest = [&self.tcp_options[..], &self.payload].concat();
                header.seal(self.source.0, self.destination.0, &rest);
                [header.as_bytes(), &rest].concat()
            }
            PROTOCOL_UDP => {
                let mut header = udp_wire::Header::emit(source_port, destination_port, self.payload.len() as u16);
                if self.has_checksum {
                    header.seal(self.source.0, self.destination.0, &self.payload);
                }
                [header.as_bytes(), &self.payload].concat()
            }
            _ => {
                let ((kind, code), [high, low]) = (self.icmp, (self.sequence as u16).to_be_bytes());
                let rest = self.icmp_rest.unwrap_or([0, 1, high, low]);
                let mut header = icmp::Header { kind, code, checksum: U16::ZERO, rest };
                header.seal(&self.payload);
                [header.as_bytes(), &self.payload].concat()
            }
        }
    }
}

/// The frame with `bytes` put at `offset`.
pub fn poke(mut frame: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    frame[offset..offset + bytes.len()].copy_from_slice(bytes);
    frame
}

/// Why the interface with [`LOCAL_MAC`] refuses a frame; `None` if it doesn't.
pub fn refusal(frame: &[u8]) -> Option<ParseError> {
    Packet::parse(frame, &LOCAL_MAC).err()
}

/// The flow of a frame that must be a good IP packet, whoever it is addressed to.
pub fn flow_of(frame: &[u8]) -> Flow {
    let mac = frame.first_chunk().expect("an Ethernet header");
    match Packet::parse(frame, mac) {
        Ok(Parsed::Ip(flow)) => flow,
        other => panic!("not an IP packet: {other:?}"),
    }
}

/// Compares a whole frame, and shows both as packets where they differ.
#[track_caller]
pub fn assert_frame(actual: &[u8], expected: &[u8], what: impl fmt::Display) {
    if actual == expected {
        return;
    }
    let common = actual.iter().zip(expected).take_while(|(one, other)| one == other).count();
    let (actual, expected) = (Printed(actual), Printed(expected));
    panic!("{what}: frames differ from byte {common} on\nexpected:\n{expected}\nactual:\n{actual}");
}

/// Computes the checksums of an IP frame anew and in full, as far as its lengths lead; an absent UDP checksum stays absent.
pub fn seal(frame: &mut [u8]) {
    let Some(network) = ethernet::network_offset(frame).and_then(|offset| frame.get_mut(offset..)) else {
        return;
    };
    seal_ip(network);
    let Ok((ip, _)) = ipv4::Header::read_from_prefix(network) else {
        return;
    };
    let Some(transport) = network.get_mut(ip.header_length()..usize::from(ip.total_length.get())) else {
        return;
    };
    match ip.protocol {
        PROTOCOL_TCP => {
            if let Ok((header, rest)) = tcp_wire::Header::mut_from_prefix(transport) {
                header.seal(ip.source, ip.destination, rest);
            }
        }
        PROTOCOL_UDP => seal_udp(&ip, transport),
        PROTOCOL_ICMP => {
            if let Ok((header, rest)) = icmp::Header::mut_from_prefix(transport) {
                header.seal(rest);
            }
        }
        _ => {}
    }
}

/// Whether every checksum of an IP frame is the one that [`seal`] would make.
pub fn are_checksums_right(frame: &[u8]) -> bool {
    let mut sealed = frame.to_vec();
    seal(&mut sealed);
    sealed == frame
}

/// Seals the IP header, with options, that starts `network`.
fn seal_ip(network: &mut [u8]) {
    let Ok((ip, _)) = ipv4::Header::mut_from_prefix(network) else {
        return;
    };
    ip.checksum = U16::ZERO;
    let header_length = ip.header_length();
    let Some(header) = network.get(..header_length) else {
        return;
    };
    let checksum = checksum::finish(checksum::sum(header));
    if let Ok((ip, _)) = ipv4::Header::mut_from_prefix(network) {
        ip.checksum = U16::new(checksum);
    }
}

fn seal_udp(ip: &ipv4::Header, transport: &mut [u8]) {
    let Ok((header, rest)) = udp_wire::Header::mut_from_prefix(transport) else {
        return;
    };
    let payload_length = usize::from(header.length.get()).saturating_sub(udp_wire::HEADER_LENGTH);
    if let (1.., Some(payload)) = (header.checksum.get(), rest.get(..payload_length)) {
        header.seal(ip.source, ip.destination, payload);
    }
}
