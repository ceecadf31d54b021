//! Splits large packets from the kernel into segments, and fills the checksums that it left to the device.

use shunt_packet::{PROTOCOL_TCP, checksum, ipv4, tcp};
use shunt_shmlayout::store::PACKET_BYTES;
use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

use super::vnet_header::{CONGESTION, NEEDS_CHECKSUM, SEGMENT_NONE, SEGMENT_TCP4, VnetHeader};

/// Congestion window reduced (RFC 3168 6.1): of one segment only.
const CWR: u8 = 0x80;

/// The vnet header and the packet contradict each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// Calls `emit` for each resulting packet, in order. A packet that needs no splitting is finished in place.
pub fn segment(header: &VnetHeader, packet: &mut [u8], mut emit: impl FnMut(&[u8])) -> Result<(), Malformed> {
    match header.segmentation & !CONGESTION {
        SEGMENT_NONE => {
            if header.flags & NEEDS_CHECKSUM != 0 {
                fill_checksum(header, packet).ok_or(Malformed)?;
            }
            emit(packet);
            Ok(())
        }
        SEGMENT_TCP4 => cut(usize::from(header.segment_size.get()), packet, emit).ok_or(Malformed),
        _ => Err(Malformed),
    }
}

/// The checksum field holds the pseudo-header's sum. In UDP, 0 would mean "no checksum"; 0xffff is equivalent (RFC 768).
fn fill_checksum(header: &VnetHeader, packet: &mut [u8]) -> Option<()> {
    let (start, offset) = (usize::from(header.checksum_start.get()), usize::from(header.checksum_offset.get()));
    let covered = packet.get_mut(start..)?;
    let sum = checksum::finish(checksum::sum(covered));
    let field = covered.get_mut(offset..offset + 2)?;
    field.copy_from_slice(&if sum == 0 { 0xffff } else { sum }.to_be_bytes());
    Some(())
}

fn cut(size: usize, packet: &[u8], mut emit: impl FnMut(&[u8])) -> Option<()> {
    let (ip, _) = ipv4::Header::read_from_prefix(packet).ok()?;
    let transport = ip.header_length();
    let (tcp, _) = tcp::Header::read_from_prefix(packet.get(transport..)?).ok()?;
    let tcp_length = usize::from(tcp.data_offset >> 4) * 4;
    let is_tcp4 = ip.version_length >> 4 == 4 && transport >= ipv4::HEADER_LENGTH && ip.protocol == PROTOCOL_TCP;
    let (headers, payload) = packet.split_at_checked(transport + tcp_length)?;
    if !is_tcp4 || tcp_length < tcp::HEADER_LENGTH || size == 0 || headers.len() + size > PACKET_BYTES {
        return None;
    }
    let mut buffer = [0; PACKET_BYTES];
    buffer[..headers.len()].copy_from_slice(headers);
    let count = payload.len().div_ceil(size).max(1);
    for (number, part) in payload.chunks(size).enumerate() {
        let mut flags = tcp.flags;
        if number > 0 {
            flags &= !CWR;
        }
        if number + 1 < count {
            flags &= !(tcp::FIN | tcp::PSH);
        }
        let length = headers.len() + part.len();
        let segment = &mut buffer[..length];
        segment[headers.len()..].copy_from_slice(part);
        let total_length = U16::new(length as u16);
        let identification = U16::new(ip.identification.get().wrapping_add(number as u16));
        seal_ip(&mut segment[..transport], ipv4::Header { total_length, identification, ..ip });
        let sequence = U32::new(tcp.sequence.get().wrapping_add((number * size) as u32));
        seal_tcp(&ip, &mut segment[transport..], tcp::Header { flags, sequence, ..tcp });
        emit(segment);
    }
    Some(())
}

/// Writes the header and completes its checksum, which covers the options behind it too.
pub fn seal_ip(bytes: &mut [u8], mut header: ipv4::Header) {
    header.checksum = U16::ZERO;
    bytes[..ipv4::HEADER_LENGTH].copy_from_slice(header.as_bytes());
    header.checksum = U16::new(checksum::finish(checksum::sum(bytes)));
    bytes[..ipv4::HEADER_LENGTH].copy_from_slice(header.as_bytes());
}

fn seal_tcp(ip: &ipv4::Header, bytes: &mut [u8], mut header: tcp::Header) {
    header.seal(ip.source, ip.destination, &bytes[tcp::HEADER_LENGTH..]);
    bytes[..tcp::HEADER_LENGTH].copy_from_slice(header.as_bytes());
}
