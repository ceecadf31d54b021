//! ICMP errors about connections (RFC 5508): a connection is found by the packet that the error quotes, the packet and the
//! error are both translated, and the error goes on to the side that sent the packet. An error doesn't
//! change the connection: it neither refreshes nor ends it.
//!
//! Errors are rare, so all of this is kept out of the hot path.

use super::host::is_host;
use super::{Filter, PacketMetadata, Subject, Verdict, mode};
use shunt_packet::quote::{self, Quote};
use shunt_packet::{Buffer, Flow, icmp, ipv4};
use shunt_shmlayout::address::InterfaceId;
use shunt_shmlayout::config_table::Generation;
use shunt_shmlayout::connections::{Found, Key, Side};
use shunt_shmlayout::drop_reason::DropReason;
use shunt_shmlayout::endpoints::{AddressUse, Endpoint};

/// Which connection's side an ICMP error belongs to, by source and destination of the packet that it quotes.
#[cold]
pub(super) fn classify(tables: &Generation, frame: &[u8], flow: &Flow) -> Option<Subject> {
    let quote = quote::read(frame, flow)?;
    // An error goes to the sender of the packet that it is about.
    if quote.source != flow.destination {
        return None;
    }
    let translated = |side| quote.error.is_about_the_way().then_some(Subject::Error(side));
    match tables.find(&quote.source, quote.source_port, quote.protocol) {
        Some(Endpoint::HostService(_)) => Some(Subject::Host),
        Some(Endpoint::Service(_)) => translated(Side::Client),
        _ => match tables.find(&quote.destination, quote.destination_port, quote.protocol) {
            Some(Endpoint::Backend(_)) => translated(Side::Backend),
            _ => None,
        },
    }
}

/// Why an ICMP error to a service's address that concerns no service is refused; `None` if it is no error.
#[cold]
pub(super) fn refusal(frame: &[u8], flow: &Flow) -> Option<DropReason> {
    let error = icmp::Header::of(frame, flow).filter(icmp::Header::is_error)?;
    Some(match error.kind {
        icmp::TYPE_SOURCE_QUENCH => DropReason::IcmpQuench,
        icmp::TYPE_REDIRECT => DropReason::IcmpRedirect,
        _ if quote::read(frame, flow).is_some_and(|quote| quote.is_intact) => DropReason::IcmpNoMatch,
        _ => DropReason::IcmpInner,
    })
}

impl Filter {
    /// An ICMP error that comes from this side of a connection, to the other side.
    #[cold]
    pub(super) fn pass_error_on(
        &mut self,
        tables: &Generation,
        frame: &mut Buffer<'_>,
        metadata: &PacketMetadata,
        side: Side,
        from: InterfaceId,
    ) -> Verdict {
        let flow = &metadata.flow;
        match (self.find_quoted(tables, frame, flow, side), side) {
            (Ok(_), Side::Client) if !is_host(from) && tables.address_use(&flow.source).is_some() => {
                Verdict::Drop(DropReason::SpoofedService)
            }
            (Ok(found), Side::Backend) if self.is_spoofed(tables, found.connection.backend, from) => {
                Verdict::Drop(DropReason::SpoofedBackend)
            }
            (Ok(found), Side::Client) => self.send_error_to_backend(tables, frame, flow, &found),
            (Ok(found), Side::Backend) => self.send_error_to_client(tables, frame, flow, &found),
            // Perhaps about the box's own connection to its backend, such as a health check.
            (Err(_), Side::Backend) if tables.address_use(&flow.destination) == Some(AddressUse::Host) => {
                Verdict::ToHost(usize::from(flow.end))
            }
            (Err(_), Side::Backend) if metadata.kernel_has_it => Verdict::NotOurs,
            (Err(reason), _) => Verdict::Drop(reason),
        }
    }

    /// The connection that an ICMP error from this side of it is about.
    fn find_quoted(&self, tables: &Generation, frame: &[u8], flow: &Flow, side: Side) -> Result<Found, DropReason> {
        let quote = quote::read(frame, flow).filter(|quote| quote.is_intact).ok_or(DropReason::IcmpInner)?;
        if quote.error.too_big_mtu().is_some_and(|mtu| mtu < ipv4::MTU_MIN) {
            return Err(DropReason::PtbSmall);
        }
        let key = quoted_key(tables, &quote, side).ok_or(DropReason::IcmpNoMatch)?;
        let table = self.owner.table();
        table.find(&key, table.hash(&key)).ok_or(DropReason::IcmpNoMatch)
    }

    /// About a packet that a client was sent, from the client or a router on the way: to the backend that sent it. A `dsr`
    /// backend has the service's address itself.
    fn send_error_to_backend(
        &self,
        tables: &Generation,
        frame: &mut Buffer<'_>,
        flow: &Flow,
        found: &Found,
    ) -> Verdict {
        let connection = &found.connection;
        let Some(backend) = tables.backend(connection.backend) else { return Verdict::Drop(DropReason::BadTable) };
        let Some(mode) = connection.mode.get() else { return Verdict::Drop(DropReason::BadTable) };
        if mode.traits().routes && flow.ttl <= 1 {
            return Verdict::Drop(DropReason::TtlExceeded);
        }
        let mac = match self.backend_mac(&backend) {
            Ok(mac) => mac,
            Err(reason) => return Verdict::Drop(reason),
        };
        let length = mode::rewrite_error_to_backend(mode, frame, flow, &backend);
        self.leave(frame, backend.interface, mac, length)
    }

    /// About a packet that a backend was sent, from the backend or a router on the way: to the client that sent it.
    fn send_error_to_client(&mut self, tables: &Generation, frame: &mut [u8], flow: &Flow, found: &Found) -> Verdict {
        let connection = &found.connection;
        let Some(mode) = connection.mode.get() else { return Verdict::Drop(DropReason::BadTable) };
        if !mode.sees_replies() {
            return Verdict::NotOurs;
        }
        let (Some(service), Some(backend)) = (tables.service(connection.service), tables.backend(connection.backend))
        else {
            return Verdict::Drop(DropReason::BadTable);
        };
        if mode.traits().routes && flow.ttl <= 1 {
            return Verdict::Drop(DropReason::TtlExceeded);
        }
        mode::rewrite_error_to_client(mode, frame, flow, &service, &backend);
        let Some(hop) = self.owner.table().last_hop(found) else { return Verdict::Drop(DropReason::IcmpNoMatch) };
        let length = usize::from(flow.end);
        if is_host(hop.interface) {
            return Verdict::ToHost(length);
        }
        match self.way_to_client(tables, &connection.client, hop) {
            Ok((interface, mac)) => self.leave(frame, interface, mac, length),
            Err(reason) => Verdict::Drop(reason),
        }
    }
}

/// The connection of the packet that an error from this side quotes, as the table knows it from there.
fn quoted_key(tables: &Generation, quote: &Quote, side: Side) -> Option<Key> {
    let sender = (quote.source, quote.source_port);
    let receiver = (quote.destination, quote.destination_port);
    let (client, server) = if side == Side::Client { (receiver, sender) } else { (sender, receiver) };
    let id = match (side, tables.find(&server.0, server.1, quote.protocol)?) {
        (Side::Client, Endpoint::Service(id)) => id.0,
        (Side::Backend, Endpoint::Backend(id)) => id.0,
        _ => return None,
    };
    Some(Key { side, client: client.0, client_port: client.1, id })
}
