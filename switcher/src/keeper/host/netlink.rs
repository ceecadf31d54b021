//! Requests to the kernel about one device: up, MTU, addresses, and the rules that make the box's programs use it. Each is
//! answered before the next is made; what is there already is no error.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;

/// The kernel makes no larger message (32 KiB in a dump).
const DATAGRAM_BYTES: usize = 64 << 10;
/// Who made a route or rule, as `ip rule` shows it: tells Shunt's from all others (rtnetlink(7), values above 4 are free).
const PROTOCOL: RouteProtocol = RouteProtocol::Other(83);

/// A rule of Shunt's: which packets of the box's own programs look for their way in which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    pub source: (Ipv4Addr, u8),
    pub destination: (Ipv4Addr, u8),
    pub priority: u32,
    pub table: u32,
}

/// A socket for requests.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    pub fn open() -> io::Result<Netlink> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        // Port 0 is the kernel: with it as the peer, nobody else's messages are received.
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Sets a device's MTU, and sets it up.
    pub fn set_up(&mut self, index: u32, mtu: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes = vec![LinkAttribute::Mtu(mtu)];
        self.command(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Makes an address the box's own, on a device.
    pub fn add_address(&mut self, index: u32, address: Ipv4Addr) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewAddress(address_message(index, address));
        self.command(message, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// The reverse.
    pub fn remove_address(&mut self, index: u32, address: Ipv4Addr) -> io::Result<()> {
        gone_is_fine(self.command(RouteNetlinkMessage::DelAddress(address_message(index, address)), 0))
    }

    /// Makes everything in `table` go to a device; programs that chose no source get `source`.
    pub fn set_default_route(&mut self, index: u32, table: u32, source: Option<Ipv4Addr>) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.protocol = PROTOCOL;
        message.header.scope = RouteScope::Link;
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![RouteAttribute::Oif(index), RouteAttribute::Table(table)];
        let source = source.map(|source| RouteAttribute::PrefSource(RouteAddress::Inet(source)));
        message.attributes.extend(source);
        self.command(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    pub fn add_rule(&mut self, rule: &Rule) -> io::Result<()> {
        let added = self.command(RouteNetlinkMessage::NewRule(rule_message(rule)), NLM_F_CREATE | NLM_F_EXCL);
        match added {
            Err(error) if error.raw_os_error() == Some(Errno::EEXIST as i32) => Ok(()),
            other => other,
        }
    }

    pub fn remove_rule(&mut self, rule: &Rule) -> io::Result<()> {
        gone_is_fine(self.command(RouteNetlinkMessage::DelRule(rule_message(rule)), 0))
    }

    /// The rules that a keeper of Shunt made, of any instance.
    pub fn rules(&mut self) -> io::Result<Vec<Rule>> {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet;
        let mut rules = Vec::new();
        self.exchange(RouteNetlinkMessage::GetRule(message), NLM_F_DUMP, |answer| {
            if let RouteNetlinkMessage::NewRule(rule) = answer {
                rules.extend(own_rule(&rule));
            }
        })?;
        Ok(rules)
    }

    fn command(&mut self, request: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.exchange(request, flags | NLM_F_ACK, drop)
    }

    fn exchange(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
        mut take: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut buffer = vec![0; DATAGRAM_BYTES];
        loop {
            let received = match self.socket.recv(&mut &mut buffer[..], 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if let Some(end) = read(&buffer[..received], self.sequence, &mut take) {
                return end;
            }
        }
    }
}

/// Reads the messages of a datagram; the end of the answer, if it is among them.
fn read(mut datagram: &[u8], sequence: u32, take: &mut impl FnMut(RouteNetlinkMessage)) -> Option<io::Result<()>> {
    while let Ok(header) = NetlinkBuffer::new_checked(&datagram) {
        let length = header.length() as usize;
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&datagram[..length]) {
            // Left over from a request that failed half way.
            Ok(message) if message.header.sequence_number != sequence => {}
            Ok(message) => match message.payload {
                NetlinkPayload::Done(_) => return Some(Ok(())),
                NetlinkPayload::Error(error) if error.code.is_none() => return Some(Ok(())),
                NetlinkPayload::Error(error) => return Some(Err(error.to_io())),
                NetlinkPayload::InnerMessage(inner) => take(inner),
                _ => {}
            },
            Err(error) => log::warn!("skipped a netlink message of type {}: {error}", header.message_type()),
        }
        // Messages are aligned to 4 bytes (NLMSG_ALIGNTO).
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    None
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    let gone = [Errno::ENOENT as i32, Errno::EADDRNOTAVAIL as i32, Errno::ENODEV as i32];
    match result {
        Err(error) if error.raw_os_error().is_some_and(|code| gone.contains(&code)) => Ok(()),
        other => other,
    }
}

fn address_message(index: u32, address: Ipv4Addr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = 32;
    message.header.index = index;
    let address = IpAddr::V4(address);
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    message
}

fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.action = RuleAction::ToTable;
    message.header.src_len = rule.source.1;
    message.header.dst_len = rule.destination.1;
    let table =
        [RuleAttribute::Priority(rule.priority), RuleAttribute::Table(rule.table), RuleAttribute::Protocol(PROTOCOL)];
    let source = (rule.source.1 > 0).then(|| RuleAttribute::Source(rule.source.0.into()));
    let destination = (rule.destination.1 > 0).then(|| RuleAttribute::Destination(rule.destination.0.into()));
    message.attributes = source.into_iter().chain(destination).chain(table).collect();
    message
}

/// The reverse of [`rule_message`]; `None` for a rule that isn't Shunt's.
fn own_rule(message: &RuleMessage) -> Option<Rule> {
    let none = Ipv4Addr::UNSPECIFIED;
    let (mut source, mut destination, mut priority, mut table, mut is_own) = (none, none, 0, 0, false);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(IpAddr::V4(address)) => source = *address,
            RuleAttribute::Destination(IpAddr::V4(address)) => destination = *address,
            RuleAttribute::Priority(number) => priority = *number,
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Protocol(protocol) => is_own = *protocol == PROTOCOL,
            _ => {}
        }
    }
    let (source, destination) = ((source, message.header.src_len), (destination, message.header.dst_len));
    is_own.then_some(Rule { source, destination, priority, table })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_comes_back_as_it_was_made() {
        let host = (Ipv4Addr::new(198, 18, 0, 101), 32);
        let (any, unbound) = ((Ipv4Addr::UNSPECIFIED, 0), (Ipv4Addr::UNSPECIFIED, 32));
        for (source, destination) in [(host, any), (unbound, (Ipv4Addr::new(198, 18, 0, 0), 24))] {
            let rule = Rule { source, destination, priority: 5300, table: 7042 };
            assert_eq!(own_rule(&rule_message(&rule)), Some(rule));
        }
        assert_eq!(own_rule(&RuleMessage::default()), None);
    }
}
