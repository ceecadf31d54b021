//! The headers of the generated frame: Ethernet, IPv4, UDP without checksum (RFC 768: zero means none).

use std::net::Ipv4Addr;

/// Bytes of a frame: 64 on the wire with the frame check sequence.
pub const LENGTH: usize = 60;
/// Bytes of the three headers.
pub const HEADER_LENGTH: usize = 14 + 20 + 8;
/// Where the UDP source port is.
pub const SOURCE_PORT_OFFSET: usize = 14 + 20;

/// Whom the frames are from and for.
pub struct Addresses {
    pub source_mac: [u8; 6],
    pub destination_mac: [u8; 6],
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub destination_port: u16,
}

/// The headers, with a source port of zero.
pub fn header(addresses: &Addresses) -> [u8; HEADER_LENGTH] {
    let mut bytes = [0; HEADER_LENGTH];
    bytes[..6].copy_from_slice(&addresses.destination_mac);
    bytes[6..12].copy_from_slice(&addresses.source_mac);
    bytes[12..14].copy_from_slice(&0x0800_u16.to_be_bytes());
    fill_ip(&mut bytes[14..34], addresses);
    bytes[36..38].copy_from_slice(&addresses.destination_port.to_be_bytes());
    bytes[38..40].copy_from_slice(&((LENGTH - 34) as u16).to_be_bytes());
    bytes
}

fn fill_ip(ip: &mut [u8], addresses: &Addresses) {
    const DONT_FRAGMENT: u8 = 0x40;
    const UDP: u8 = 17;
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&((LENGTH - 14) as u16).to_be_bytes());
    ip[6] = DONT_FRAGMENT;
    ip[8] = 64;
    ip[9] = UDP;
    ip[12..16].copy_from_slice(&addresses.source.octets());
    ip[16..20].copy_from_slice(&addresses.destination.octets());
    let checksum = !sum(ip);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// One's complement sum of 16-bit words (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Addresses {
        Addresses {
            source_mac: [2, 0, 0, 0, 0, 1],
            destination_mac: [2, 0, 0, 0, 0, 2],
            source: Ipv4Addr::new(198, 18, 0, 2),
            destination: Ipv4Addr::new(198, 18, 0, 100),
            destination_port: 5001,
        }
    }

    #[test]
    fn ip_header_sums_to_all_ones() {
        assert_eq!(sum(&header(&addresses())[14..34]), 0xFFFF);
    }

    #[test]
    fn lengths_cover_the_frame_without_padding() {
        let header = header(&addresses());
        assert_eq!(u16::from_be_bytes([header[16], header[17]]), 46);
        assert_eq!(u16::from_be_bytes([header[38], header[39]]), 26);
    }
}
