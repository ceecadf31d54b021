//! What the kernel knows of links, addresses, routes and neighbours, as plain values, and how it is read.
//!
//! [`requests::Requests`] dumps it, [`decode`] turns messages into plain [`event`]s, [`state::State`] takes those in, and
//! [`intervals`] flattens the routes for the switchers. Control's routing daemon follows the kernel by them; `shunt doctor`
//! looks once.
#![forbid(unsafe_code)]

pub mod decode;
pub mod error;
pub mod event;
pub mod intervals;
pub mod requests;
pub mod state;

use error::NetlinkError;
use state::State;

/// Links and the machine's addresses at one moment, without the routes, of which there can be a million.
pub fn addresses() -> Result<State, NetlinkError> {
    requests::Requests::open()?.dump_addresses()
}

/// What the kernel knows at one moment.
pub fn snapshot() -> Result<State, NetlinkError> {
    requests::Requests::open()?.dump_all()
}
