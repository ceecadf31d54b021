//! Joins consecutive segments of one TCP connection into one packet for the kernel, like the kernel's generic receive
//! offload (net/ipv4/tcp_offload.c, `tcp_gro_receive`): only if the result is equivalent to the segments themselves.
//!
//! A segment is joined only if its checksum is right, because the kernel does not verify it again. A segment that has PSH,
//! or is shorter than the others, ends its train.

use shunt_packet::{PROTOCOL_TCP, checksum, ipv4, tcp};
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, IntoBytes};

use super::segment::seal_ip;
use super::vnet_header::{LENGTH, NEEDS_CHECKSUM, SEGMENT_TCP4, VnetHeader};

/// Offset of the checksum in a TCP header.
const CHECKSUM_OFFSET: u16 = 16;
const DONT_FRAGMENT: u16 = 0x4000;
/// Largest offset of the payload: TCP has at most 40 bytes of options.
const TRANSPORT: usize = ipv4::HEADER_LENGTH;
/// Largest IP packet.
const MOST: usize = 65535;

/// Holds back segments until the next packet shows whether it continues them.
pub struct Coalescer {
    /// Room for the vnet header, then the packet.
    buffer: Vec<u8>,
    train: Option<Train>,
}

/// Description of the segments in the buffer.
struct Train {
    ip: ipv4::Header,
    tcp: tcp::Header,
    /// Length of the IP and TCP headers with options, in bytes.
    headers: usize,
    /// Payload length of each segment but the last.
    size: usize,
    segments: usize,
    length: usize,
    is_closed: bool,
}

impl Coalescer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self { buffer: vec![0; LENGTH + MOST], train: None }
    }

    /// Takes the next packet. Packets that must not wait any longer go to `write`, behind a vnet header; order is kept.
    pub fn push(&mut self, packet: &[u8], mut write: impl FnMut(&[u8])) {
        let segment = Segment::parse(packet);
        if let (Some(train), Some(segment)) = (&mut self.train, &segment)
            && train.takes(segment, &self.buffer[LENGTH..])
        {
            train.append(segment, &mut self.buffer[LENGTH..]);
            return;
        }
        self.flush(&mut write);
        self.buffer[LENGTH..LENGTH + packet.len()].copy_from_slice(packet);
        match segment {
            Some(segment) => self.train = Some(segment.begin()),
            None => self.write(VnetHeader::default(), packet.len(), write),
        }
    }

    /// Writes the held packet, at the end of a burst, so that it does not wait for more traffic.
    pub fn flush(&mut self, write: impl FnMut(&[u8])) {
        let Some(train) = self.train.take() else { return };
        let header = match train.segments {
            1 => VnetHeader::default(),
            _ => train.seal(&mut self.buffer[LENGTH..]),
        };
        self.write(header, train.length, write);
    }

    fn write(&mut self, header: VnetHeader, length: usize, mut write: impl FnMut(&[u8])) {
        self.buffer[..LENGTH].copy_from_slice(header.as_bytes());
        write(&self.buffer[..LENGTH + length]);
    }
}

/// A packet that can be joined with others of its connection.
struct Segment<'a> {
    ip: ipv4::Header,
    tcp: tcp::Header,
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// `None` unless it is a plain data segment: no IP options, fragments, other flags, or wrong checksum.
    fn parse(packet: &'a [u8]) -> Option<Self> {
        let (ip, rest) = ipv4::Header::read_from_prefix(packet).ok()?;
        let is_plain = ip.version_length == 0x45
            && ip.protocol == PROTOCOL_TCP
            && ip.fragment.get() == DONT_FRAGMENT
            && usize::from(ip.total_length.get()) == packet.len();
        let (tcp, _) = tcp::Header::read_from_prefix(rest).ok()?;
        let (header, payload) = rest.split_at_checked(usize::from(tcp.data_offset >> 4) * 4)?;
        let options = header.get(tcp::HEADER_LENGTH..)?;
        let is_data = tcp.flags & !tcp::PSH == tcp::ACK && !payload.is_empty();
        let sums_up = || {
            let pseudo = checksum::pseudo_header(ip.source, ip.destination, PROTOCOL_TCP, rest.len() as u16);
            checksum::verify(checksum::sum(ip.as_bytes())) && checksum::verify(pseudo + checksum::sum(rest))
        };
        (is_plain && is_data && sums_up()).then_some(Self { ip, tcp, options, payload })
    }

    fn begin(self) -> Train {
        let headers = TRANSPORT + tcp::HEADER_LENGTH + self.options.len();
        let (size, is_closed) = (self.payload.len(), self.pushes());
        Train { ip: self.ip, tcp: self.tcp, headers, size, segments: 1, length: headers + size, is_closed }
    }

    fn pushes(&self) -> bool {
        self.tcp.flags & tcp::PSH != 0
    }
}

impl Train {
    /// Whether a segment continues this train. The identification of non-fragmentable packets has no meaning (RFC 6864
    /// 4.1); all other header fields must match.
    fn takes(&self, next: &Segment<'_>, held: &[u8]) -> bool {
        let (ip, tcp) = (&self.ip, &self.tcp);
        let same_ip = (ip.source, ip.destination, ip.ttl, ip.traffic_class)
            == (next.ip.source, next.ip.destination, next.ip.ttl, next.ip.traffic_class);
        let same_tcp = (tcp.source_port, tcp.destination_port, tcp.acknowledgement, tcp.window, tcp.urgent)
            == (
                next.tcp.source_port,
                next.tcp.destination_port,
                next.tcp.acknowledgement,
                next.tcp.window,
                next.tcp.urgent,
            );
        let sequence = tcp.sequence.get().wrapping_add((self.length - self.headers) as u32);
        !self.is_closed
            && same_ip
            && same_tcp
            && next.tcp.sequence.get() == sequence
            && held[TRANSPORT + tcp::HEADER_LENGTH..self.headers] == *next.options
            && next.payload.len() <= self.size
            && self.length + next.payload.len() <= MOST
    }

    fn append(&mut self, next: &Segment<'_>, held: &mut [u8]) {
        let end = self.length + next.payload.len();
        held[self.length..end].copy_from_slice(next.payload);
        self.length = end;
        self.segments += 1;
        self.is_closed = next.pushes() || next.payload.len() < self.size;
        self.tcp.flags |= next.tcp.flags & tcp::PSH;
    }

    /// Finishes the joined packet; the kernel completes its TCP checksum.
    fn seal(&self, held: &mut [u8]) -> VnetHeader {
        let total_length = U16::new(self.length as u16);
        seal_ip(&mut held[..TRANSPORT], ipv4::Header { total_length, ..self.ip });
        let (source, destination) = (self.ip.source, self.ip.destination);
        let pseudo = checksum::pseudo_header(source, destination, PROTOCOL_TCP, (self.length - TRANSPORT) as u16);
        let tcp = tcp::Header { checksum: U16::new(checksum::fold(pseudo)), ..self.tcp };
        held[TRANSPORT..TRANSPORT + tcp::HEADER_LENGTH].copy_from_slice(tcp.as_bytes());
        VnetHeader {
            flags: NEEDS_CHECKSUM,
            segmentation: SEGMENT_TCP4,
            header_length: (self.headers as u16).into(),
            segment_size: (self.size as u16).into(),
            checksum_start: (TRANSPORT as u16).into(),
            checksum_offset: CHECKSUM_OFFSET.into(),
        }
    }
}
