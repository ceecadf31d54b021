//! Checks that take a client's way: their packets are sent as switchers send a client's, to the same Ethernet address and,
//! with `dsr`, to the service's address. A backend without that address on its loopback fails them; one that is asked at its
//! own address would pass, and swallow every client's packet.
//!
//! The kernel can't send such packets: it has one way to an address, none if the address is its own (that of a service
//! which backends and the box's own programs share), and drops replies from there as spoofed. So the connection is one in
//! user space, by a packet socket. Nothing of it outlives control: no route, rule or mark.
//!
//! ```text
//!  Check --> probe --> Stream --> Stack (smoltcp) --> packets --> packet socket --> link, Ethernet address of `Path`
//! ```
//!
//! Replies are addressed to the box itself, so that the XDP program lets them pass, and the packet socket sees them before
//! the kernel's IP judges them.

mod stack;
mod stream;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::BackendKey;
use shunt_routing::event::Mac;
pub use stream::Stream;

/// Which client's way a check takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientWay {
    /// Whose Ethernet address is sent to.
    pub backend: IpAddr,
    /// Whom it answers.
    pub sender: Sender,
}

/// Which of the box's own addresses a check is sent from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// One on the link that leads to the backend.
    Neighbour,
    /// One on the clients' side, best in the subnet of this address, the service's: the backend must route its replies as it
    /// routes those to clients.
    ClientSide(IpAddr),
}

/// How a check's packets travel just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The link that they leave by, and the replies must come in by.
    pub ifindex: u32,
    /// The next hop's Ethernet address.
    pub mac: Mac,
    /// One of the box's own addresses.
    pub source: Ipv4Addr,
}

/// Why there is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPath {
    /// The backend is this machine.
    #[error("{0} is an address of this machine, to which no client's packet can be imitated; write as_client = false")]
    Own(IpAddr),
    /// No route by an interface of Shunt's.
    #[error("no route to {0} by an interface of Shunt's")]
    NoRoute(IpAddr),
    /// Not resolved.
    #[error("no Ethernet address for {0}: nobody answers ARP for it")]
    Unresolved(IpAddr),
    /// Nothing to send from.
    #[error("{0} has no IPv4 address to check from; give it one, or write as_client = false")]
    NoSource(String),
}

/// The path of each check that takes a client's way, as soon as control has looked for it.
pub type Paths = BTreeMap<BackendKey, Result<Path, NoPath>>;
