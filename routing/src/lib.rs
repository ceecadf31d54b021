//! The kernel's links, addresses, routes and neighbours as plain values.
//!
//! [`requests::Requests`] dumps them, [`decode`] turns messages into plain [`event`]s, [`state::State`] applies events, and
//! [`intervals`] flattens the routes for the switchers. Control's routing daemon tracks the kernel with these modules;
//! `shunt doctor` takes one snapshot.
#![forbid(unsafe_code)]

pub mod decode;
pub mod error;
pub mod event;
pub mod intervals;
pub mod requests;
pub mod state;

use error::NetlinkError;
use state::State;

/// A snapshot of links and addresses, without the routes, which may number a million.
pub fn addresses() -> Result<State, NetlinkError> {
    requests::Requests::open()?.dump_addresses()
}

/// A snapshot of links, addresses, routes and neighbours.
pub fn snapshot() -> Result<State, NetlinkError> {
    requests::Requests::open()?.dump_all()
}
