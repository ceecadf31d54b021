//! Faults of the pseudo-interface in the kernel: set down, or its addresses, rules or routes removed.

use super::{Problem, Severity};
use netlink_packet_core::NLM_F_ACK;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use shunt_netlink::RequestSocket;
use shunt_routing::state::State;
use shunt_shmlayout::regions::KeeperRegion;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

/// A destination reserved for documentation (RFC 5737), so that no route exists for it: stands for any client.
const ANYBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Fault of the pseudo-interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostFault {
    /// The device does not exist.
    Gone,
    /// It is set down.
    Down,
    /// It has no IPv4 address.
    NoAddress,
    /// Packets sent from one of its addresses do not leave through it.
    Diverted(Ipv4Addr),
}

/// A pseudo-interface that doesn't carry the packets of the box's own programs.
pub struct FaultyHost {
    /// The device's name.
    pub device: String,
    /// Its fault.
    pub fault: HostFault,
}

/// The fault of the instance's pseudo-interface, if any, and if a keeper or switcher lives in this network namespace.
pub fn faulty_host(keeper: &KeeperRegion, kernel: &State) -> Option<FaultyHost> {
    let index = u32::try_from(keeper.head.device_index.get()).ok().filter(|index| *index != 0)?;
    let fault = keeper.lives_here().then(|| fault(kernel, index, way_out))??;
    Some(FaultyHost { device: keeper.head.device_name(), fault })
}

fn fault(kernel: &State, index: u32, way_out: impl Fn(Ipv4Addr) -> io::Result<u32>) -> Option<HostFault> {
    let Some(link) = kernel.links.get(&index) else { return Some(HostFault::Gone) };
    if !link.up {
        return Some(HostFault::Down);
    }
    let own = kernel.addresses.iter().filter(|own| own.ifindex == index);
    let own: Vec<Ipv4Addr> = own.filter_map(|own| v4(own.address)).collect();
    let is_diverted = |address: &Ipv4Addr| way_out(*address).ok() != Some(index);
    match own.is_empty() {
        true => Some(HostFault::NoAddress),
        false => own.into_iter().find(is_diverted).map(HostFault::Diverted),
    }
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// The interface through which the kernel sends from an address, by its rules and tables.
fn way_out(source: Ipv4Addr) -> io::Result<u32> {
    let mut question = RouteMessage::default();
    question.header.address_family = AddressFamily::Inet;
    (question.header.source_prefix_length, question.header.destination_prefix_length) = (32, 32);
    question.attributes = vec![
        RouteAttribute::Source(RouteAddress::Inet(source)),
        RouteAttribute::Destination(RouteAddress::Inet(ANYBODY)),
    ];
    let mut index = None;
    RequestSocket::open(NETLINK_ROUTE)?.exchange(RouteNetlinkMessage::GetRoute(question), NLM_F_ACK, |answer, _| {
        if let RouteNetlinkMessage::NewRoute(route) = answer {
            index = route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            });
        }
    })?;
    index.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The problem and its remedy.
pub fn host_text(FaultyHost { device, fault }: &FaultyHost) -> (String, &'static str) {
    const AGAIN: &str = "kill -9 the keeper's pid: its successor makes or sets up the device with addresses, rules and route, and \
                         packets of clients go on";
    let (what, mend) = match fault {
        HostFault::Gone => (format!("{device} was removed"), AGAIN),
        HostFault::Down => (format!("{device} is set down"), AGAIN),
        HostFault::NoAddress => (format!("{device} has no address"), AGAIN),
        HostFault::Diverted(address) => {
            (format!("what is sent from {address} doesn't leave by {device}: its rule or route is gone"), AGAIN)
        }
    };
    (format!("{what}: the box's own programs aren't reached"), mend)
}

pub(super) fn host_down(host: &FaultyHost) -> Problem {
    let (text, mend) = host_text(host);
    Problem::new("host_down", Severity::NotServing, format!("pseudo-interface {}", host.device), text, mend)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_routing::event::{Link, LinkAddress};

    #[test]
    fn the_device_its_addresses_and_their_way_out_are_judged() {
        let address = Ipv4Addr::new(198, 18, 0, 101);
        let mut kernel = State::default();
        let by = |index| move |_| Ok(index);
        assert_eq!(fault(&kernel, 7, by(7)), Some(HostFault::Gone));
        let link = Link { ifindex: 7, name: "shunt0".into(), mac: None, mtu: 1500, up: false, carrier: true };
        kernel.links.insert(7, link);
        assert_eq!(fault(&kernel, 7, by(7)), Some(HostFault::Down));
        kernel.links.get_mut(&7).unwrap().up = true;
        assert_eq!(fault(&kernel, 7, by(7)), Some(HostFault::NoAddress));
        kernel.addresses.insert(LinkAddress { ifindex: 7, address: address.into(), prefix_len: 32 });
        assert_eq!(fault(&kernel, 7, by(7)), None);
        assert_eq!(fault(&kernel, 7, by(2)), Some(HostFault::Diverted(address)));
        let unreachable = |_| Err(io::ErrorKind::NetworkUnreachable.into());
        assert_eq!(fault(&kernel, 7, unreachable), Some(HostFault::Diverted(address)));
    }

    #[test]
    fn the_kernel_says_by_which_interface_it_sends() {
        let loopback = nix::net::if_::if_nametoindex("lo").unwrap();
        // From the loopback's address a packet to anybody else leaves by whatever the routes say, or not at all.
        assert!(way_out(Ipv4Addr::LOCALHOST).map_or(true, |index| index >= loopback));
    }
}
