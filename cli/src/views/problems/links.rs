//! Interfaces whose link doesn't carry packets.

use super::{Problem, Severity};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use shunt_shmlayout::regions::KeeperRegion;

/// What is wrong with an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkFault {
    /// There is no interface of its name.
    Gone,
    /// Another interface has its name: it was removed and made again.
    Replaced,
    /// It is set down.
    Down,
    /// Nothing is connected to it.
    NoCarrier,
}

/// An interface that carries no packets.
pub struct FaultyLink {
    /// Its name.
    pub interface: String,
    /// Why.
    pub fault: LinkFault,
}

/// The instance's interfaces that carry no packets; none where no keeper or switcher lives in this network namespace.
pub fn faulty_links(keeper: &KeeperRegion) -> Vec<FaultyLink> {
    if !keeper.lives_here() {
        return Vec::new();
    }
    let faulty = |interface: String, ifindex| Some(FaultyLink { fault: fault(&interface, ifindex)?, interface });
    keeper.interfaces().filter_map(|(_, record)| faulty(record.name.to_string(), record.ifindex)).collect()
}

fn fault(name: &str, ifindex: u32) -> Option<LinkFault> {
    match if_nametoindex(name) {
        Err(_) => return Some(LinkFault::Gone),
        Ok(index) if index != ifindex => return Some(LinkFault::Replaced),
        Ok(_) => {}
    }
    let flags = getifaddrs().ok()?.find(|entry| entry.interface_name == name)?.flags;
    match (flags.contains(InterfaceFlags::IFF_UP), flags.contains(InterfaceFlags::IFF_RUNNING)) {
        (false, _) => Some(LinkFault::Down),
        (true, false) => Some(LinkFault::NoCarrier),
        (true, true) => None,
    }
}

/// Whoever is behind it gets no service.
pub fn faulty(link: &FaultyLink) -> Problem {
    let name = &link.interface;
    let anew = "stop Shunt and start it again: it opens the interface's queues at its start";
    let (code, text, mend) = match link.fault {
        LinkFault::Gone => ("interface_gone", "isn't there any more", format!("make it again, then {anew}")),
        LinkFault::Replaced => {
            ("interface_gone", "was removed and made again: Shunt doesn't use the new one", anew.into())
        }
        LinkFault::Down => ("interface_down", "is set down", format!("ip link set dev {name} up")),
        LinkFault::NoCarrier => ("interface_down", "has no carrier", "connect it, or set its other end up".into()),
    };
    let text = format!("{text}: nobody behind it is reached");
    Problem::new(code, Severity::NotServing, format!("interface {name}"), text, &mend)
}
