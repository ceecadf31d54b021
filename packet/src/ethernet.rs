//! Ethernet II and VLAN tags. No VLAN is configured, so a tag is accepted only as a priority tag (id 0).

use core::fmt;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ParseError;

/// Type field of IPv4.
pub const TYPE_IPV4: u16 = 0x0800;
/// Type field of ARP.
pub const TYPE_ARP: u16 = 0x0806;
/// Type field of a customer VLAN tag.
pub const TYPE_VLAN: u16 = 0x8100;
/// Type field of a service VLAN tag (IEEE 802.1ad).
pub const TYPE_SERVICE_VLAN: u16 = 0x88a8;
/// The broadcast address.
pub const BROADCAST: [u8; 6] = [0xff; 6];
/// The host's address on the pseudo-interface.
pub const HOST: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// The switcher's own side of the pseudo-interface.
pub const HOST_PORT: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
/// Length of the untagged header.
pub const HEADER_LENGTH: usize = size_of::<Header>();

/// Highest value of the type field that is an 802.3 length instead.
const LLC_LENGTH_MAX: u16 = 1500;
const VLAN_ID_MASK: u16 = 0x0fff;
const VLAN_ID_RESERVED: u16 = 0x0fff;
const VLAN_TAGS_MAX: usize = 2;

/// The Ethernet II header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Destination address.
    pub destination: [u8; 6],
    /// Sender.
    pub source: [u8; 6],
    /// What follows: one of the `TYPE_` constants.
    pub ethertype: U16,
}

/// What follows a VLAN type field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Tag {
    /// Priority in the upper 4 bits, VLAN id in the lower 12.
    pub control: U16,
    /// What follows the tag.
    pub ethertype: U16,
}

/// What the link layer says about a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link<'a> {
    /// Sender.
    pub source: &'a [u8; 6],
    /// Where the network header starts.
    pub network_offset: usize,
    /// [`TYPE_IPV4`] or [`TYPE_ARP`].
    pub ethertype: u16,
    /// Whether the destination is broadcast or multicast.
    pub group: bool,
}

/// Checks the link layer of a frame. Also returns the frame from its network header on.
#[inline]
pub fn check<'a>(frame: &'a [u8], interface_mac: &[u8; 6]) -> Result<(Link<'a>, &'a [u8]), ParseError> {
    let (header, network) = Header::ref_from_prefix(frame).map_err(|_| ParseError::EthShort)?;
    let group = header.check_addresses(interface_mac)?;
    let (ethertype, network) = header.skip_tags(network)?;
    let network_offset = frame.len() - network.len();
    match ethertype {
        TYPE_IPV4 | TYPE_ARP => Ok((Link { source: &header.source, network_offset, ethertype, group }, network)),
        0..=LLC_LENGTH_MAX => Err(ParseError::EthLlc),
        _ => Err(ParseError::EthType),
    }
}

/// Where the network header starts in a frame that [`check`] accepted.
#[inline]
pub fn network_offset(frame: &[u8]) -> Option<usize> {
    let (header, network) = Header::ref_from_prefix(frame).ok()?;
    let (_, network) = header.skip_tags(network).ok()?;
    Some(frame.len() - network.len())
}

/// Walks the VLAN tags that start with type `ethertype`: the type after them, and the bytes after that.
#[cold]
fn walk_tags(mut rest: &[u8], mut ethertype: u16) -> Result<(u16, &[u8]), ParseError> {
    let mut depth = 0;
    let mut unknown = false;
    while matches!(ethertype, TYPE_VLAN | TYPE_SERVICE_VLAN) {
        if depth == VLAN_TAGS_MAX {
            return Err(ParseError::VlanDepth);
        }
        let (tag, after) = Tag::ref_from_prefix(rest).map_err(|_| ParseError::VlanShort)?;
        match tag.control.get() & VLAN_ID_MASK {
            VLAN_ID_RESERVED => return Err(ParseError::VlanId),
            id => unknown |= id != 0,
        }
        (ethertype, rest, depth) = (tag.ethertype.get(), after, depth + 1);
    }
    if unknown { Err(ParseError::VlanUnknown) } else { Ok((ethertype, rest)) }
}

impl Header {
    /// The type of what follows the header and any tags, and the bytes of it; `rest` is what follows the header.
    #[inline]
    fn skip_tags<'a>(&self, rest: &'a [u8]) -> Result<(u16, &'a [u8]), ParseError> {
        match self.ethertype.get() {
            tag @ (TYPE_VLAN | TYPE_SERVICE_VLAN) => walk_tags(rest, tag),
            ethertype => Ok((ethertype, rest)),
        }
    }

    /// Whether the frame was sent to a group, if its addresses are valid.
    #[inline]
    fn check_addresses(&self, interface_mac: &[u8; 6]) -> Result<bool, ParseError> {
        if is_group(&self.source) {
            return Err(ParseError::EthSource);
        }
        if self.source == *interface_mac {
            return Err(ParseError::EthLoop);
        }
        if self.destination == *interface_mac {
            return Ok(false);
        }
        match self.destination {
            [0x01, 0x80, 0xc2, 0, 0, 0..=0x0f] => Err(ParseError::EthReserved),
            destination if is_group(&destination) => Ok(true),
            _ => Err(ParseError::EthNotUs),
        }
    }
}

/// Whether an address names a group: its first bit on the wire is set.
#[inline]
pub const fn is_group(mac: &[u8; 6]) -> bool {
    mac[0] & 1 != 0
}

/// Sets both addresses.
#[inline]
pub fn emit_addresses(frame: &mut [u8], destination: &[u8; 6], source: &[u8; 6]) {
    if let Ok((header, _)) = Header::mut_from_prefix(frame) {
        header.destination = *destination;
        header.source = *source;
    }
}

/// The header for an IPv4 packet of the box's own programs, which has none.
#[inline]
pub fn emit_host_header(frame: &mut [u8]) {
    if let Ok((header, _)) = Header::mut_from_prefix(frame) {
        *header = Header { destination: HOST_PORT, source: HOST, ethertype: U16::new(TYPE_IPV4) };
    }
}

/// An Ethernet address as it is written.
pub(super) fn written(mac: [u8; 6]) -> impl fmt::Display {
    let [a, b, c, d, e, f] = mac;
    fmt::from_fn(move |out| write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"))
}

impl fmt::Display for Header {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, destination) = (written(self.source), written(self.destination));
        write!(out, "Ethernet {source} -> {destination} type {:#06x}", self.ethertype)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let control = self.control.get();
        write!(out, "VLAN {} priority {} type {:#06x}", control & VLAN_ID_MASK, control >> 12, self.ethertype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{LOCAL_MAC, arp_request, poke, refusal, udp};
    use crate::{Packet, Parsed};

    const A: ([u8; 4], u16) = ([198, 18, 0, 1], 4000);
    const B: ([u8; 4], u16) = ([198, 18, 1, 1], 53);

    #[test]
    fn row_1_eth_short() {
        let frame = udp(A, B).build();
        for length in 0..HEADER_LENGTH {
            assert_eq!(refusal(&frame[..length]), Some(ParseError::EthShort));
        }
        assert_eq!(refusal(&frame[..HEADER_LENGTH]), Some(ParseError::Ip4Truncated));
    }

    #[test]
    fn row_2_eth_not_us() {
        let frame = udp(A, B).to_mac([2, 0, 0, 0, 0, 0x77]).build();
        assert_eq!(refusal(&frame), Some(ParseError::EthNotUs));
    }

    #[test]
    fn row_3_eth_source() {
        let frame = udp(A, B).from_mac([3, 0, 0, 0, 0, 1]).build();
        assert_eq!(refusal(&frame), Some(ParseError::EthSource));
    }

    #[test]
    fn row_4_eth_reserved() {
        for last in 0..=0x0f {
            let frame = udp(A, B).to_mac([1, 0x80, 0xc2, 0, 0, last]).build();
            assert_eq!(refusal(&frame), Some(ParseError::EthReserved));
        }
        let frame = udp(A, B).to_mac([1, 0x80, 0xc2, 0, 0, 0x10]).build();
        assert_eq!(refusal(&frame), Some(ParseError::L2Broadcast));
    }

    #[test]
    fn row_5_eth_llc() {
        for length in [0u16, 46, 1500] {
            let frame = poke(udp(A, B).build(), 12, &length.to_be_bytes());
            assert_eq!(refusal(&frame), Some(ParseError::EthLlc));
        }
    }

    #[test]
    fn row_6_eth_type() {
        for ethertype in [1501u16, 0x0801, 0x86dd, 0xffff] {
            let frame = poke(udp(A, B).build(), 12, &ethertype.to_be_bytes());
            assert_eq!(refusal(&frame), Some(ParseError::EthType));
        }
    }

    #[test]
    fn row_7_eth_loop() {
        assert_eq!(refusal(&udp(A, B).from_mac(LOCAL_MAC).build()), Some(ParseError::EthLoop));
    }

    #[test]
    fn row_8_eth_jumbo() {
        let mut frame = udp(A, B).build();
        frame.resize(usize::from(u16::MAX), 0);
        assert_eq!(refusal(&frame), None);
        frame.push(0);
        assert_eq!(refusal(&frame), Some(ParseError::EthJumbo));
    }

    #[test]
    fn row_9_padding_is_not_part_of_the_packet() {
        let plain = udp(A, B).build();
        let padded = udp(A, B).padding(18).build();
        assert_eq!(padded.len(), plain.len() + 18);
        let Ok(Parsed::Ip(flow)) = Packet::parse(&padded, &LOCAL_MAC) else { panic!("refused") };
        assert_eq!(usize::from(flow.end), plain.len());
        assert_eq!(Packet::parse(&plain, &LOCAL_MAC), Ok(Parsed::Ip(flow)));
    }

    #[test]
    fn row_10_l2_broadcast() {
        for group in [BROADCAST, [1, 0, 0x5e, 0, 0, 1]] {
            assert_eq!(refusal(&udp(A, B).to_mac(group).build()), Some(ParseError::L2Broadcast));
        }
        for destination in [[255; 4], [224, 0, 0, 1]] {
            assert_eq!(refusal(&udp(A, (destination, 53)).to_mac(BROADCAST).build()), None);
        }
    }

    #[test]
    fn row_11_vlan_short() {
        let frame = udp(A, B).vlan(0).build();
        for length in 14..18 {
            assert_eq!(refusal(&frame[..length]), Some(ParseError::VlanShort));
        }
    }

    #[test]
    fn row_12_vlan_0_is_untagged() {
        for (frame, offset) in [(udp(A, B).vlan(0).build(), 18), (udp(A, B).vlan(0).vlan(0).build(), 22)] {
            let Ok(Parsed::Ip(flow)) = Packet::parse(&frame, &LOCAL_MAC) else { panic!("refused") };
            assert_eq!(flow.network_offset, offset);
            assert_eq!(usize::from(flow.end), frame.len());
        }
        let service = poke(udp(A, B).vlan(0).build(), 12, &TYPE_SERVICE_VLAN.to_be_bytes());
        assert_eq!(refusal(&service), None);
        // The priority bits don't matter; an LLC length behind a tag still does.
        assert_eq!(refusal(&poke(udp(A, B).vlan(0).build(), 14, &[0xf0, 0])), None);
        assert_eq!(refusal(&poke(udp(A, B).vlan(0).build(), 16, &[0, 46])), Some(ParseError::EthLlc));
    }

    #[test]
    fn row_13_vlan_id() {
        assert_eq!(refusal(&udp(A, B).vlan(4095).build()), Some(ParseError::VlanId));
    }

    #[test]
    fn row_14_vlan_depth() {
        assert_eq!(refusal(&udp(A, B).vlan(0).vlan(0).vlan(0).build()), Some(ParseError::VlanDepth));
        assert_eq!(refusal(&udp(A, B).vlan(5).vlan(6).vlan(7).build()), Some(ParseError::VlanDepth));
    }

    #[test]
    fn row_15_vlan_unknown() {
        assert_eq!(refusal(&udp(A, B).vlan(1).build()), Some(ParseError::VlanUnknown));
        assert_eq!(refusal(&udp(A, B).vlan(0).vlan(4094).build()), Some(ParseError::VlanUnknown));
        assert_eq!(refusal(&udp(A, B).vlan(4094).vlan(0).build()), Some(ParseError::VlanUnknown));
    }

    #[test]
    fn arp_may_be_broadcast() {
        assert_eq!(refusal(&arp_request([2, 0, 0, 0, 0, 9], A.0, B.0)), None);
    }
}
