//! Why the parser refuses a frame. The names are those of the drop reasons that a switcher counts.

/// Why a frame is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Shorter than an Ethernet header.
    EthShort,
    /// Longer than one buffer can be.
    EthJumbo,
    /// Destination is another host's Ethernet address.
    EthNotUs,
    /// Source is a multicast Ethernet address.
    EthSource,
    /// Destination 01-80-C2-00-00-0x (IEEE 802.1D).
    EthReserved,
    /// Type field is a length (802.3 LLC).
    EthLlc,
    /// Type field is none that Shunt switches.
    EthType,
    /// Source is the interface's own Ethernet address.
    EthLoop,
    /// Unicast IP in a broadcast or multicast frame (RFC 1812 section 5.3.4).
    L2Broadcast,
    /// VLAN tag cut short.
    VlanShort,
    /// VLAN 4095.
    VlanId,
    /// More than two VLAN tags.
    VlanDepth,
    /// VLAN that isn't configured.
    VlanUnknown,
    /// ARP too short, or of wrong hardware type or lengths (RFC 826).
    ArpMalformed,
    /// ARP operation other than request and reply.
    ArpOperation,
    /// ARP sender is a multicast address (RFC 1812 section 3.3.2).
    ArpMulticast,
    /// ARP sender differs from the Ethernet source.
    ArpMismatch,
    /// IPv4 version field.
    Ip4Version,
    /// IPv4 header length under 5 words.
    Ip4HeaderLength,
    /// IPv4 header or packet runs past the frame.
    Ip4Truncated,
    /// IPv4 total length under the header's.
    Ip4Length,
    /// IPv4 header checksum.
    Ip4Checksum,
    /// Source 0/8, 127/8, multicast or 240/4 (RFC 1812 section 5.3.7).
    Martian,
    /// Source equals destination.
    Land,
    /// Source routing option (RFC 7126).
    Ip4SourceRoute,
    /// Option of length 0 or past the header.
    Ip4Option,
    /// IP packet too short for its transport header.
    TransportShort,
    /// First fragment too small to hold the TCP header (RFC 1858).
    FragmentTiny,
    /// TCP fragment at offset 1 (RFC 3128).
    FragmentOffset1,
    /// A fragment; they are not put together.
    Fragment,
    /// TCP data offset under 5 words or past the end.
    TcpOffset,
    /// TCP option whose length is under 2 or past the header's end.
    TcpOption,
    /// TCP flags that no stack sends (null, Xmas, SYN+FIN, SYN+RST).
    TcpFlags,
    /// Port 0.
    PortZero,
    /// UDP length under 8 or over the IP packet's.
    UdpLength,
    /// ICMP checksum.
    IcmpChecksum,
}
