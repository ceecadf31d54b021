//! Packets to and from the box's own programs (patent Fig. 8): the verdict `ToHost`, and packets from the packet store.
//!
//! Towards the host, every well-formed IPv4 packet is passed on: the kernel filters. From the host, only the source is checked: it
//! must be an address that Shunt answers ARP for on the host's behalf, and not that of a service with backends.

use super::parse_error::drop_reason;
use super::tcp_state::begins;
use super::{Filter, PacketMetadata, Side, Subject, Verdict, icmp_error};
use shunt_packet::{Flow, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, Packet, Parsed, ethernet, ipv4, quote, v4_part};
use shunt_shmlayout::address::InterfaceId;
use shunt_shmlayout::config_table::{FibRoute, Generation};
use shunt_shmlayout::drop_reason::DropReason;
use shunt_shmlayout::endpoints::{AddressUse, Endpoint};

impl Filter {
    /// Classifies a frame that the parser refused: the host may receive fragments, options and any transport protocol.
    #[cold]
    pub(super) fn classify_refused(
        &self,
        tables: &Generation,
        frame: &[u8],
        mac: &[u8; 6],
        reason: DropReason,
        kernel_has_it: bool,
    ) -> PacketMetadata {
        let refused = PacketMetadata { subject: Subject::Malformed(reason), ..PacketMetadata::NONE };
        if let Ok(flow) = Packet::parse_whole(frame, mac) {
            match tables.address_use(&flow.destination) {
                Some(AddressUse::Host) => {
                    return PacketMetadata { subject: Subject::Host, flow, ..PacketMetadata::NONE };
                }
                // A fragment doesn't show its service: it goes to the host, because backends get none.
                Some(AddressUse::Shared) if is_fragment(reason) => {
                    return PacketMetadata { subject: Subject::Host, flow, ..PacketMetadata::NONE };
                }
                _ => {}
            }
        }
        let is_kernels = kernel_has_it && !super::is_to_service(tables, frame);
        if is_kernels { PacketMetadata::NONE } else { refused }
    }

    /// Classifies a packet to one of Shunt's addresses that belongs to no service.
    #[cold]
    pub(super) fn classify_address(address_use: AddressUse, tables: &Generation, frame: &[u8], flow: &Flow) -> Subject {
        match (icmp_error::classify(tables, frame, flow), address_use) {
            (Some(subject), _) => subject,
            (None, AddressUse::Host) => Subject::Host,
            (None, AddressUse::Shared | AddressUse::Services) => Subject::ServiceAddress,
        }
    }

    /// A packet to the host's own address or service; a packet that opens a TCP connection has its checksum verified.
    #[inline]
    pub(super) fn send_to_host(&self, frame: &[u8], flow: &Flow, interface: InterfaceId, now_ms: u64) -> Verdict {
        if begins(flow.tcp_flags) && self.has_unfilled_checksum(frame, flow, interface, now_ms) {
            return Verdict::Drop(DropReason::ChecksumUnfilled);
        }
        Verdict::ToHost(usize::from(flow.end))
    }

    /// Parses and classifies a packet that the host sends.
    pub(super) fn parse_from_host(&self, tables: &Generation, frame: &[u8]) -> PacketMetadata {
        let flow = match Packet::parse(frame, &ethernet::HOST_PORT) {
            Ok(Parsed::Ip(flow)) => Ok(flow),
            Ok(Parsed::Arp(_)) => Err(DropReason::EthType),
            Err(_) => Packet::parse_whole(frame, &ethernet::HOST_PORT).map_err(drop_reason),
        };
        let flow = match flow {
            Ok(flow) if is_hosts_source(tables, frame, &flow) => flow,
            Ok(_) => {
                return PacketMetadata {
                    subject: Subject::Malformed(DropReason::ForeignSource),
                    ..PacketMetadata::NONE
                };
            }
            Err(reason) => return PacketMetadata { subject: Subject::Malformed(reason), ..PacketMetadata::NONE },
        };
        let metadata = self.classify(tables, frame, flow, false);
        match metadata.subject {
            // The host routes nothing to backends, so this isn't about a switchers' connection.
            Subject::NotOurs | Subject::Error(Side::Backend) => {
                PacketMetadata { subject: Subject::FromHost, ..metadata }
            }
            Subject::Host => PacketMetadata { subject: Subject::NotOurs, ..metadata }, // it would talk to itself
            _ => metadata,
        }
    }

    /// A packet of the host to somewhere that isn't Shunt's: by the routing table and the ARP cache. The host is the
    /// sender, so the time to live stays as it is.
    pub(super) fn send_from_host(&mut self, tables: &Generation, frame: &mut [u8], flow: &Flow) -> Verdict {
        if !ipv4::is_unicast(v4_part(flow.destination)) {
            return Verdict::Drop(DropReason::NoRoute);
        }
        match tables.route(&flow.destination) {
            Some(FibRoute::OnLink(interface)) => {
                let Some(mac) = self.neighbours.mac_of(interface, &flow.destination) else {
                    self.want(interface, &flow.destination);
                    return Verdict::Wait(flow.destination);
                };
                self.leave(frame, interface, mac, usize::from(flow.end))
            }
            // Control keeps gateways resolved without a request.
            Some(FibRoute::Gateway(interface, gateway)) => match self.neighbours.mac(gateway) {
                Some(mac) => self.leave(frame, interface, mac, usize::from(flow.end)),
                None => Verdict::Wait(flow.destination),
            },
            Some(FibRoute::Unknown) => Verdict::Drop(DropReason::BadTable),
            None => Verdict::Drop(DropReason::NoRoute),
        }
    }
}

/// Whether the parser refused a frame because it is a fragment.
fn is_fragment(reason: DropReason) -> bool {
    matches!(reason, DropReason::Fragment | DropReason::FragmentTiny | DropReason::FragmentOffset1)
}

/// Whether the host may send from this source.
fn is_hosts_source(tables: &Generation, frame: &[u8], flow: &Flow) -> bool {
    let transport = matches!(flow.protocol, PROTOCOL_TCP | PROTOCOL_UDP);
    match tables.find(&flow.source, flow.source_port, flow.protocol).filter(|_| transport) {
        Some(Endpoint::HostService(_)) => return true,
        // The kernel has the address, and would reset the backends' connections.
        Some(Endpoint::Service(_)) => return false,
        _ => {}
    }
    match tables.address_use(&flow.source) {
        Some(AddressUse::Host) => true,
        Some(AddressUse::Shared) => flow.protocol != PROTOCOL_ICMP || quotes_host_service(tables, frame, flow),
        Some(AddressUse::Services) | None => false,
    }
}

/// Whether a packet is an ICMP error about a packet to a service of the host's.
fn quotes_host_service(tables: &Generation, frame: &[u8], flow: &Flow) -> bool {
    quote::read(frame, flow).is_some_and(|quote| {
        let receiver = tables.find(&quote.destination, quote.destination_port, quote.protocol);
        matches!(receiver, Some(Endpoint::HostService(_)))
    })
}

/// Whether a packet to a client of this last hop goes to the host.
#[inline]
pub(super) fn is_host(interface: InterfaceId) -> bool {
    interface == InterfaceId::HOST
}
