//! Back-ends in service that no packet reaches. A health check would take such a back-end out; without one it stays up.

use super::{Problem, Severity};
use crate::configuration::Backend;
use crate::memory::Memory;
use shunt_shmlayout::address::NeighbourId;

/// Why no packet reaches a back-end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WayFault {
    /// No route leads to it through one of Shunt's interfaces.
    NoRoute,
    /// Its next hop has no Ethernet address.
    Unresolved {
        /// The next hop's address.
        next_hop: String,
        /// The interface that leads to it.
        interface: String,
    },
}

/// A back-end that no packet reaches.
pub struct UnreachableBackend {
    /// Its name.
    pub name: String,
    /// The reason.
    pub fault: WayFault,
}

/// The fault of the path to a back-end; `None` if switchers can reach it.
pub fn way_fault(memory: &Memory, backend: &Backend) -> Option<WayFault> {
    let id = backend.record.neighbour;
    match memory.control.neighbours.get(id).filter(|_| id != NeighbourId::NONE) {
        None => Some(WayFault::NoRoute),
        Some((.., Some(_))) => None,
        Some((interface, address, None)) => Some(WayFault::Unresolved {
            next_hop: address.to_string(),
            interface: memory.interface_name(interface.0).unwrap_or_else(|| "an interface".to_owned()),
        }),
    }
}

/// The problem and its remedy.
pub(super) fn unreachable(backend: &UnreachableBackend) -> Problem {
    let (text, mend) = match &backend.fault {
        WayFault::NoRoute => (
            "there is no route to it by one of Shunt's interfaces".to_owned(),
            "give one of Shunt's interfaces an address in its network, or add a route; `shunt doctor FILE` says more",
        ),
        WayFault::Unresolved { next_hop, interface } => (
            format!("its next hop {next_hop} on {interface} has no Ethernet address: no host answers ARP for it"),
            "see that the next hop runs and has this address; [service.health] would take the back-end out meanwhile",
        ),
    };
    let text = format!("is up, and no packet reaches it: {text}");
    Problem::new("backend_unreachable", Severity::Degraded, format!("backend {}", backend.name), text, mend)
}
