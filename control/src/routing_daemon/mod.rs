//! The routing daemon: what the kernel knows of links, addresses, routes and neighbours, followed live.
//!
//! Patent Fig. 4, "routing daemon". `netlink` follows the kernel, over `socket` and `requests`, and turns messages (`decode`) into plain events (`event`)
//! that a plain model (`state`) takes in; `ranges` flattens the routes for the switchers; `resolve` decides which
//! neighbours to ask the kernel for, and `announce` tells the client side where the service addresses are.
//! Control's main loop writes the outcome into the control region; nobody else touches these.
//!
//! A backend that announces a new MAC by a gratuitous ARP is judged by the kernel's own neighbour state machine: it
//! takes a new MAC for an entry only as that entry's state allows (`locktime`, and `arp_accept` for unknown senders), and a
//! STALE entry, which is what such a change leaves behind, is asked for at once by `resolve`, so that the kernel probes
//! whoever answers now. Shunt copies what the kernel settles on and keeps no opinion of its own.

pub mod announce;
mod decode;
pub mod error;
pub mod event;
pub mod netlink;
pub mod ranges;
mod requests;
pub mod resolve;
mod socket;
pub mod state;
