//! The routing daemon: follows the kernel's links, addresses, routes and neighbours.
//!
//! Patent Fig. 4, "routing daemon". `netlink` follows the kernel and keeps a plain model of it (`shunt_routing`); `resolve`
//! decides which neighbours to ask the kernel for, and `announce` tells
//! the client side where the service addresses are. Control's main loop writes the outcome into
//! the control region; no other code accesses them.
//!
//! A backend that announces a new MAC is judged by the kernel's own neighbour state machine, and Shunt copies what that
//! settles on. A gratuitous ARP for an entry that exists changes it at once and leaves it STALE; `resolve` has a STALE
//! entry of a backend or gateway confirmed, so that an address without a host becomes FAILED within seconds. The
//! old address isn't asked first: where a segment isn't trusted, give its backends permanent neighbour entries, which
//! no packet changes and which are followed like any other.

pub mod announce;
pub mod netlink;
pub mod resolve;
