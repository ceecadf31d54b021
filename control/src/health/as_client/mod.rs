//! Checks that take a client's path: their packets are sent as switchers send a client's, to the same Ethernet address and,
//! with `dsr`, to the service's address. A backend without that address on its loopback fails them; if it were probed at
//! its own address, it would pass and drop every client's packet.
//!
//! The kernel cannot send such packets: it has one route to an address, none to its own (such as that of a service shared
//! by backends and the machine's own programs), and drops replies from it as spoofed. Therefore the connection runs in user
//! space over a packet socket. It leaves nothing behind: no route, rule or mark.
//!
//! ```text
//!  Check --> probe --> Stream --> Stack (smoltcp) --> packets --> packet socket --> link, Ethernet address of `Path`
//! ```
//!
//! Replies are addressed to the machine itself, so the XDP program passes them, and the packet socket receives them before
//! the kernel's IP layer drops them.

mod stack;
mod stream;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::BackendKey;
use shunt_routing::event::Mac;
pub use stream::Stream;

/// The client's path that a check takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientWay {
    /// The host whose Ethernet address is the destination.
    pub backend: IpAddr,
    /// Selects the source address.
    pub sender: Sender,
}

/// Selects a check's source address among the machine's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// An address on the link to the backend.
    Neighbour,
    /// An address on the client side, preferably in the subnet of this service address: the backend must route its replies
    /// as it routes those to clients.
    ClientSide(IpAddr),
}

/// The current path of a check's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The link that they leave by and that replies must arrive by.
    pub ifindex: u32,
    /// The next hop's Ethernet address.
    pub mac: Mac,
    /// The source address, one of the machine's own.
    pub source: Ipv4Addr,
}

/// Why there is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPath {
    /// The backend is this machine.
    #[error("{0} is an address of this machine, to which no client's packet can be imitated; write as_client = false")]
    Own(IpAddr),
    /// No route through Shunt's interfaces.
    #[error("no route to {0} by an interface of Shunt's")]
    NoRoute(IpAddr),
    /// The neighbour is unresolved.
    #[error("no Ethernet address for {0}: no host answers ARP for it")]
    Unresolved(IpAddr),
    /// No source address.
    #[error("{0} has no IPv4 address to check from; give it one, or write as_client = false")]
    NoSource(String),
}

/// The path of each check that takes a client's path, once control has determined it.
pub type Paths = BTreeMap<BackendKey, Result<Path, NoPath>>;
