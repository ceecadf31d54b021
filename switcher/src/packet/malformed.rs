//! Why a frame is refused: one name a reason, which is also its counter, its status column and its metric label.
//!
//! Written by the checks of the protocol files, read by the filter (Fig. 6, "read headers").

/// Declares the reasons once, each with the name it is counted under.
macro_rules! reasons {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal,)+) => {
        /// A reason to drop a frame that its bytes alone give.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Malformed {
            $($(#[$doc])+ $variant,)+
        }

        impl Malformed {
            /// Every reason, in the order of their discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name the reason is counted under.
            #[inline]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

reasons! {
    /// Shorter than an Ethernet header.
    EthShort = "eth_short",
    /// Longer than one buffer can be.
    EthJumbo = "eth_jumbo",
    /// Unicast to another interface.
    EthNotUs = "eth_not_us",
    /// Source is a group address.
    EthSource = "eth_source",
    /// Destination is one of the bridge group addresses 01-80-C2-00-00-0x, which are never forwarded (IEEE 802.1Q 8.6.3).
    EthReserved = "eth_reserved",
    /// The type field is a length: LLC, not Ethernet II.
    EthLlc = "eth_llc",
    /// A type other than IPv4, ARP or a VLAN tag.
    EthType = "eth_type",
    /// Our own address as source.
    EthLoop = "eth_loop",
    /// A unicast IP packet in a link-layer broadcast or multicast (RFC 1812 5.3.4).
    L2Broadcast = "l2_broadcast",
    /// Cut inside a VLAN tag.
    VlanShort = "vlan_short",
    /// The reserved VLAN id 4095.
    VlanId = "vlan_id",
    /// More than two VLAN tags.
    VlanDepth = "vlan_depth",
    /// A VLAN that isn't configured.
    VlanUnknown = "vlan_unknown",
    /// ARP that is cut, or not for Ethernet and IPv4.
    ArpMalformed = "arp_malformed",
    /// ARP that is neither request nor reply.
    ArpOperation = "arp_operation",
    /// ARP whose sender has a group address (RFC 1812 3.3.2).
    ArpMulticast = "arp_multicast",
    /// ARP whose sender isn't the frame's source.
    ArpMismatch = "arp_mismatch",
    /// IPv4 type with another version inside.
    Ip4Version = "ip4_version",
    /// Header length under 5 words.
    Ip4HeaderLength = "ip4_header_length",
    /// Header or total length past the frame's end.
    Ip4Truncated = "ip4_truncated",
    /// Total length under the header's.
    Ip4Length = "ip4_length",
    /// Header checksum wrong.
    Ip4Checksum = "ip4_checksum",
    /// Source in 0/8, 127/8, 224/4 or 240/4 (RFC 1812 5.3.7).
    Martian = "martian",
    /// Source and destination address the same.
    Land = "land",
    /// Loose or strict source routing (RFC 7126 4.3, 4.4).
    Ip4SourceRoute = "ip4_source_route",
    /// An option whose length is under 2 or past the header's end.
    Ip4Option = "ip4_option",
    /// First TCP fragment without the flags (RFC 1858 3).
    FragmentTiny = "fragment_tiny",
    /// TCP fragment at offset 1, which could overwrite the flags (RFC 1858 3, RFC 3128).
    FragmentOffset1 = "fragment_offset1",
    /// Any other fragment: fragments aren't put together.
    Fragment = "fragment",
    /// Fewer bytes than the transport's smallest header, or none.
    TransportShort = "transport_short",
    /// Data offset under 5 words or past the segment's end.
    TcpOffset = "tcp_offset",
    /// An option whose length is under 2 or past the header's end.
    TcpOption = "tcp_option",
    /// No flag at all, FIN+PSH+URG alone, SYN with FIN, SYN with RST.
    TcpFlags = "tcp_flags",
    /// Source or destination port 0.
    PortZero = "port_zero",
    /// Length under 8 or past the IP packet's end.
    UdpLength = "udp_length",
    /// ICMP checksum wrong.
    IcmpChecksum = "icmp_checksum",
}

#[cfg(test)]
mod tests {
    use super::Malformed;

    /// The counter's name is the variant's, in snake case.
    fn snake_case(variant: &str) -> String {
        let mut name = String::new();
        for letter in variant.chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }

    #[test]
    fn names_follow_the_variants_and_all_follows_the_discriminants() {
        for (index, reason) in Malformed::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert_eq!(reason.name(), snake_case(&format!("{reason:?}")));
        }
    }
}
