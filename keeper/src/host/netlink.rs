//! Netlink requests for one device: link up, MTU, addresses, and the policy rules for the box's programs. Each request is
//! answered before the next is sent; an object that already exists is no error.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use nix::net::if_::if_nameindex;

use shunt_netlink::RequestSocket;

/// Protocol number of Shunt's routes and rules, as `ip rule` shows it (rtnetlink(7): values above 4 are free).
const PROTOCOL: RouteProtocol = RouteProtocol::Other(83);

/// The table of device `i` is this plus `i`.
pub(super) const FIRST_TABLE: u32 = 7000;

/// A policy rule of Shunt: source or destination prefix, and the table to look up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    pub source: (Ipv4Addr, u8),
    pub destination: (Ipv4Addr, u8),
    pub priority: u32,
    pub table: u32,
}

/// A netlink socket.
pub(super) struct Netlink {
    requests: RequestSocket,
}

impl Netlink {
    pub fn open() -> io::Result<Netlink> {
        Ok(Netlink { requests: RequestSocket::open(NETLINK_ROUTE)? })
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

    /// Adds an address to a device.
    pub fn add_address(&mut self, index: u32, address: Ipv4Addr) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewAddress(address_message(index, address));
        self.command(message, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Removes an address from a device.
    pub fn remove_address(&mut self, index: u32, address: Ipv4Addr) -> io::Result<()> {
        gone_is_fine(self.command(RouteNetlinkMessage::DelAddress(address_message(index, address)), 0))
    }

    /// Adds a default route through a device to `table`, with `source` as preferred source.
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

    /// Removes the rules of removed devices, of any instance: a keeper and its daemon may have been killed together.
    pub fn remove_orphans(&mut self) -> io::Result<()> {
        // Before the devices: a keeper creates its device before its rules.
        let rules = self.rules()?;
        let devices: BTreeSet<u32> = if_nameindex()?.iter().map(|device| device.index()).collect();
        let is_orphan = |rule: &&Rule| !devices.contains(&rule.table.saturating_sub(FIRST_TABLE));
        rules.iter().filter(is_orphan).try_for_each(|rule| self.remove_rule(rule))
    }

    /// The rules that a keeper created, of any instance.
    pub fn rules(&mut self) -> io::Result<Vec<Rule>> {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet;
        self.requests.list(RouteNetlinkMessage::GetRule(message), |answer| match answer {
            RouteNetlinkMessage::NewRule(rule) => own_rule(&rule),
            _ => None,
        })
    }

    fn command(&mut self, request: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.requests.exchange(request, flags | NLM_F_ACK, |_, _| {})
    }
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

/// Parses a message of [`rule_message`]; `None` for a rule that is not Shunt's.
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

    #[test]
    fn rules_outlive_their_device_only_until_the_next_start() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: network namespaces need root");
            return;
        }
        // Namespaces are a thread's, and this one's vanishes with it.
        let left = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let mut netlink = Netlink::open().unwrap();
            let loopback = nix::net::if_::if_nametoindex("lo").unwrap();
            let (source, destination) = ((Ipv4Addr::new(198, 18, 0, 101), 32), (Ipv4Addr::UNSPECIFIED, 0));
            for index in [loopback, 999] {
                let table = FIRST_TABLE + index;
                netlink.add_rule(&Rule { source, destination, priority: 5300, table }).unwrap();
            }
            super::super::remove_orphans();
            (netlink.rules().unwrap().iter().map(|rule| rule.table - FIRST_TABLE).collect::<Vec<_>>(), loopback)
        });
        let (left, loopback) = left.join().unwrap();
        assert_eq!(left, [loopback]);
    }
}
