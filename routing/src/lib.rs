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
    complete(requests::Requests::open()?.dump_addresses()?)
}

/// A snapshot of links, addresses, routes and neighbours.
pub fn snapshot() -> Result<State, NetlinkError> {
    complete(requests::Requests::open()?.dump_all()?)
}

/// Rejects an incomplete state. Only a follower of events can use one, because it learns what is missing.
fn complete(state: State) -> Result<State, NetlinkError> {
    match state.is_incomplete || state.routes_stale {
        true => Err(NetlinkError::Interrupted),
        false => Ok(state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_state_is_an_error() {
        assert!(complete(State::default()).is_ok());
        let parts =
            [State { is_incomplete: true, ..State::default() }, State { routes_stale: true, ..State::default() }];
        for part in parts {
            assert!(matches!(complete(part), Err(NetlinkError::Interrupted)));
        }
    }
}
