//! Drop reasons, each defined once: the variant is the counter, the status column and the metric label.
//!
//! The names follow the protocol specifications; each reason cites its section.

use crate::counted::counted;

counted! {
    "Why a frame was dropped." DropReason:
    /// Shorter than an Ethernet header.
    EthShort = "eth_short",
    /// Longer than one buffer can be.
    EthJumbo = "eth_jumbo",
    /// Destination is another host's Ethernet address.
    EthNotUs = "eth_not_us",
    /// Source is a multicast Ethernet address.
    EthSource = "eth_source",
    /// Destination 01-80-C2-00-00-0x (IEEE 802.1D).
    EthReserved = "eth_reserved",
    /// Type field is a length (802.3 LLC).
    EthLlc = "eth_llc",
    /// Type field that Shunt does not support.
    EthType = "eth_type",
    /// Source is the interface's own Ethernet address.
    EthLoop = "eth_loop",
    /// Unicast IP in a broadcast or multicast frame (RFC 1812 section 5.3.4).
    L2Broadcast = "l2_broadcast",
    /// VLAN tag cut short.
    VlanShort = "vlan_short",
    /// VLAN 4095.
    VlanId = "vlan_id",
    /// More than two VLAN tags.
    VlanDepth = "vlan_depth",
    /// VLAN that is not configured.
    VlanUnknown = "vlan_unknown",
    /// ARP too short, or of wrong hardware type or lengths (RFC 826).
    ArpMalformed = "arp_malformed",
    /// ARP operation other than request and reply.
    ArpOperation = "arp_operation",
    /// ARP sender is a multicast address (RFC 1812 section 3.3.2).
    ArpMulticast = "arp_multicast",
    /// ARP sender differs from the Ethernet source.
    ArpMismatch = "arp_mismatch",
    /// ARP for an address that is not Shunt's.
    ArpUnsolicited = "arp_unsolicited",
    /// IPv4 version field.
    Ip4Version = "ip4_version",
    /// IPv4 header length under 5 words.
    Ip4HeaderLength = "ip4_header_length",
    /// IPv4 header or packet runs past the frame.
    Ip4Truncated = "ip4_truncated",
    /// IPv4 total length under the header's.
    Ip4Length = "ip4_length",
    /// IPv4 header checksum.
    Ip4Checksum = "ip4_checksum",
    /// Time to live exceeded (RFC 1812 section 5.3.1).
    TtlExceeded = "ttl_exceeded",
    /// Source 0/8, 127/8, multicast or 240/4 (RFC 1812 section 5.3.7).
    Martian = "martian",
    /// Source equals destination.
    Land = "land",
    /// Source is a service address.
    SpoofedService = "spoofed_service",
    /// Source is a backend, from an interface of the clients' side by which no packet goes to it.
    SpoofedBackend = "spoofed_backend",
    /// From the pseudo-interface, with a source that is not an address or service of this machine.
    ForeignSource = "foreign_source",
    /// Source routing option (RFC 7126).
    Ip4SourceRoute = "ip4_source_route",
    /// Option of length 0 or past the header.
    Ip4Option = "ip4_option",
    /// IP packet too short for its transport header.
    TransportShort = "transport_short",
    /// First fragment too small to hold the TCP header (RFC 1858).
    FragmentTiny = "fragment_tiny",
    /// TCP fragment at offset 1 (RFC 3128).
    FragmentOffset1 = "fragment_offset1",
    /// A fragment; Shunt does not reassemble.
    Fragment = "fragment",
    /// Transport protocol that no service uses.
    Protocol = "protocol",
    /// TCP data offset under 5 words or past the end.
    TcpOffset = "tcp_offset",
    /// TCP option whose length is under 2 or past the header's end.
    TcpOption = "tcp_option",
    /// TCP flags that no stack sends (null, Xmas, SYN+FIN, SYN+RST).
    TcpFlags = "tcp_flags",
    /// Port 0.
    PortZero = "port_zero",
    /// TCP or UDP checksum left to the sender's device, which did not fill it in: turn transmit checksum offload off there.
    ChecksumUnfilled = "checksum_unfilled",
    /// UDP length under 8 or over the IP packet's.
    UdpLength = "udp_length",
    /// ICMP checksum.
    IcmpChecksum = "icmp_checksum",
    /// ICMP message that Shunt neither answers nor translates.
    IcmpType = "icmp_type",
    /// ICMP error that quotes too little of its packet, or an IP header with a wrong checksum (RFC 5508 REQ-3).
    IcmpInner = "icmp_inner",
    /// ICMP error that matches no connection.
    IcmpNoMatch = "icmp_no_match",
    /// ICMP source quench (RFC 6633).
    IcmpQuench = "icmp_quench",
    /// ICMP redirect: the kernel manages routes.
    IcmpRedirect = "icmp_redirect",
    /// ICMP "too big" that names an MTU under 68 (RFC 791 section 3.2).
    PtbSmall = "ptb_small",
    /// To a service address, but no service uses this port.
    NoService = "no_service",
    /// No connection, and the packet does not open one.
    NoConnection = "no_connection",
    /// The service has no back-end that accepts connections.
    NoBackend = "no_backend",
    /// The back-end is down, or drained for longer than drain_timeout_s, and the service has on_backend_down = "reset".
    StaleBackend = "stale_backend",
    /// A back-end connected to a service that chose the same back-end, which rejects packets from its own address.
    /// Let it connect to its own address, or to a service of which it is no back-end.
    BackendToItself = "backend_to_itself",
    /// The connection table is full.
    TableFull = "table_full",
    /// No free slot within the connection table's probes.
    TableProbes = "table_probes",
    /// The client's port is already connected to that back-end through another service.
    BackendSideTaken = "backend_side_taken",
    /// An echo request over its source's rate limit.
    ReplyLimit = "reply_limit",
    /// No route to the destination.
    NoRoute = "no_route",
    /// The next hop's Ethernet address is not resolved yet.
    Unresolved = "unresolved",
    /// Invalid reference or code in shared memory.
    BadTable = "bad_table",
    /// Neither to a service nor a back-end's reply.
    NotOurs = "not_ours",
    /// The outgoing interface's transmit ring is full.
    TransmitFull = "transmit_full",
    /// The packet store to this machine's own programs is full.
    StoreFull = "store_full",
    /// This switcher has no port on the outgoing interface.
    NoPort = "no_port",
}

/// Number of drop reasons.
pub const DROP_REASONS: usize = DropReason::ALL.len();

#[cfg(test)]
mod tests {
    use super::*;

    fn snake_case(variant: &str) -> String {
        let letters = variant.chars().enumerate();
        letters.fold(String::new(), |name, (at, letter)| {
            let gap = if letter.is_ascii_uppercase() && at > 0 { "_" } else { "" };
            name + gap + &letter.to_ascii_lowercase().to_string()
        })
    }

    #[test]
    fn names_are_the_variants_in_snake_case() {
        for reason in DropReason::ALL {
            assert_eq!(reason.name(), snake_case(&format!("{reason:?}")));
        }
    }

    #[test]
    fn counters_follow_the_order_and_names_are_unique() {
        let names: std::collections::HashSet<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), DROP_REASONS);
        assert!(DropReason::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
    }
}
