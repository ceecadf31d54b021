//! The routing daemon: what the kernel knows of links, addresses, routes and neighbours, followed live.
//!
//! Patent Fig. 4, "routing daemon". `netlink` follows the kernel and keeps a plain model of it (`shunt_routing`); `resolve`
//! decides which neighbours to ask the kernel for, and `announce` tells
//! the client side where the service addresses are. Control's main loop writes the outcome into
//! the control region; nobody else touches these.
//!
//! A backend that announces a new MAC is judged by the kernel's own neighbour state machine, and Shunt copies what that
//! settles on. A gratuitous ARP for an entry that exists changes it at once and leaves it STALE; `resolve` has a STALE
//! entry of a backend or gateway confirmed, so that an address nobody answers from becomes FAILED within seconds. The
//! old address isn't asked first: where a segment isn't trusted, give its backends permanent neighbour entries, which
//! no packet changes and which are followed like any other.

pub mod announce;
pub mod netlink;
pub mod resolve;
