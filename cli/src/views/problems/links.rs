//! Interfaces whose link carries no packets.

use super::{Problem, Severity};
use shunt_routing::state::State;
use shunt_shmlayout::regions::KeeperRegion;

/// Fault of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkFault {
    /// There is no interface of its name.
    Gone,
    /// Another interface has its name: it was removed and recreated.
    Replaced,
    /// It is set down.
    Down,
    /// It has no carrier.
    NoCarrier,
}

/// An interface that carries no packets.
pub struct FaultyLink {
    /// Its name.
    pub interface: String,
    /// Its fault.
    pub fault: LinkFault,
}

/// The instance's interfaces that carry no packets; empty if no keeper or switcher lives in this network namespace.
pub fn faulty_links(keeper: &KeeperRegion, kernel: &State) -> Vec<FaultyLink> {
    if !keeper.lives_here() {
        return Vec::new();
    }
    let faulty =
        |interface: String, ifindex| Some(FaultyLink { fault: fault(kernel, &interface, ifindex)?, interface });
    keeper.interfaces().filter_map(|(_, record)| faulty(record.name.to_string(), record.ifindex)).collect()
}

fn fault(kernel: &State, name: &str, ifindex: u32) -> Option<LinkFault> {
    match kernel.link_named(name) {
        None => Some(LinkFault::Gone),
        Some(link) if link.ifindex != ifindex => Some(LinkFault::Replaced),
        Some(link) if !link.up => Some(LinkFault::Down),
        Some(link) if !link.carrier => Some(LinkFault::NoCarrier),
        Some(_) => None,
    }
}

/// The remedy for an interface whose queues are gone.
pub const START_ANEW: &str = "stop Shunt and start it again: it opens the interface's queues at its start";
/// The consequence of a recreated interface.
pub const REPLACED: &str = "was removed and made again: Shunt doesn't use the new one";

/// The problem of an interface: its peers get no service.
pub fn faulty(link: &FaultyLink) -> Problem {
    let name = &link.interface;
    let (code, text, mend) = match link.fault {
        LinkFault::Gone => ("interface_gone", "isn't there any more", format!("make it again, then {START_ANEW}")),
        LinkFault::Replaced => ("interface_gone", REPLACED, START_ANEW.into()),
        LinkFault::Down => ("interface_down", "is set down", format!("ip link set dev {name} up")),
        LinkFault::NoCarrier => ("interface_down", "has no carrier", "connect it, or set its other end up".into()),
    };
    let text = format!("{text}: nobody behind it is reached");
    Problem::new(code, Severity::NotServing, format!("interface {name}"), text, &mend)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_routing::event::{Event, Link};

    #[test]
    fn a_link_is_judged_by_its_name_and_index() {
        let mut kernel = State::default();
        for (ifindex, name, up, carrier) in
            [(1, "eth0", true, true), (2, "eth1", false, false), (3, "eth2", true, false)]
        {
            let link = Link { ifindex, name: name.into(), mac: None, mtu: 1500, up, carrier };
            kernel.apply(Event::Link(link));
        }
        for (name, ifindex, expected) in [
            ("eth0", 1, None),
            ("eth0", 7, Some(LinkFault::Replaced)),
            ("eth1", 2, Some(LinkFault::Down)),
            ("eth2", 3, Some(LinkFault::NoCarrier)),
            ("eth9", 9, Some(LinkFault::Gone)),
        ] {
            assert_eq!(fault(&kernel, name, ifindex), expected, "{name} {ifindex}");
        }
    }
}
