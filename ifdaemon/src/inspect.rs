//! Checks packets of the box's own programs, and selects the switcher for each.

use std::net::Ipv4Addr;

use shunt_packet::{PROTOCOL_TCP, PROTOCOL_UDP, ipv4};
use shunt_shmlayout::regions::DaemonDrop;
use zerocopy::FromBytes;

/// An accepted IPv4 packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Source address.
    pub source: Ipv4Addr,
    /// Equal for all packets of a connection, so that one switcher gets them in order.
    pub hash: u64,
}

/// Checks a packet as read from the device.
pub fn inspect(packet: &[u8]) -> Result<Inspected, DaemonDrop> {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => {}
        Some(6) => return Err(DaemonDrop::Ipv6),
        _ => return Err(DaemonDrop::Malformed),
    }
    let (ip, _) = ipv4::Header::read_from_prefix(packet).map_err(|_| DaemonDrop::Malformed)?;
    let header_length = ip.header_length();
    if header_length < ipv4::HEADER_LENGTH
        || header_length > packet.len()
        || usize::from(ip.total_length.get()) != packet.len()
    {
        return Err(DaemonDrop::Malformed);
    }
    // Only the first fragment has ports, so fragments are hashed by their addresses alone.
    let has_ports = matches!(ip.protocol, PROTOCOL_TCP | PROTOCOL_UDP) && !ip.is_fragment();
    let ports = packet.get(header_length..header_length + 4).filter(|_| has_ports).unwrap_or(&[0; 4]);
    let [a, b] = [ip.source, ip.destination].map(|address| u64::from(u32::from_be_bytes(address)));
    let ports = ports.iter().fold(u64::from(ip.protocol), |ports, byte| ports << 8 | u64::from(*byte));
    Ok(Inspected { source: ip.source.into(), hash: mix(mix(a << 32 | b) ^ ports) })
}

/// Spreads a number over all bits (the finisher of splitmix64).
fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_packet::tcp::ACK;
    use shunt_packet::testing::{icmp_echo, tcp, udp};

    const HOST: [u8; 4] = [198, 18, 0, 101];
    const CLIENT: [u8; 4] = [198, 18, 0, 1];

    fn packet(frame: Vec<u8>) -> Vec<u8> {
        frame[14..].to_vec()
    }

    #[test]
    fn packets_of_a_connection_have_one_hash_and_connections_are_spread() {
        let of = |port, payload: &[u8]| packet(tcp((HOST, 80), (CLIENT, port), ACK).payload(payload).build());
        let hash = |port, payload: &[u8]| inspect(&of(port, payload)).expect("good").hash;
        assert_eq!(hash(4000, b"a"), hash(4000, b"another"));
        let odd = (0..1000).filter(|port| hash(4000 + port, b"") % 2 == 1).count();
        assert!((400..600).contains(&odd), "{odd} of 1000 to the second of two switchers");
        assert_eq!(inspect(&of(1, b"")).expect("good").source, Ipv4Addr::from(HOST));
    }

    #[test]
    fn fragments_of_a_datagram_have_one_hash() {
        let mut first = packet(udp((HOST, 53), (CLIENT, 4000)).payload(&[1; 64]).build());
        let mut second = packet(udp((HOST, 9), (CLIENT, 9)).payload(&[2; 64]).build());
        first[6] = 0x20;
        second[7] = 9;
        assert_eq!(inspect(&first), inspect(&second));
    }

    #[test]
    fn rejected_packets_have_a_reason() {
        let good = packet(icmp_echo(HOST, CLIENT).build());
        assert!(inspect(&good).is_ok());
        let with = |at: usize, byte: u8| {
            let mut other = good.clone();
            other[at] = byte;
            other
        };
        let cases = [
            (with(0, 0x60), DaemonDrop::Ipv6),
            (with(0, 0x15), DaemonDrop::Malformed),
            (with(0, 0x44), DaemonDrop::Malformed),
            (with(0, 0x4f), DaemonDrop::Malformed),
            (with(3, 200), DaemonDrop::Malformed),
            (good[..19].to_vec(), DaemonDrop::Malformed),
            (Vec::new(), DaemonDrop::Malformed),
        ];
        for (packet, reason) in cases {
            assert_eq!(inspect(&packet), Err(reason), "{packet:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
            let _ = inspect(&bytes);
        }
    }
}
