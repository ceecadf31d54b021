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
    whole(requests::Requests::open()?.dump_addresses()?)
}

/// What the kernel knows at one moment.
pub fn snapshot() -> Result<State, NetlinkError> {
    whole(requests::Requests::open()?.dump_all()?)
}

/// Only the follower, which hears of what is missing, can go on with a part.
fn whole(state: State) -> Result<State, NetlinkError> {
    match state.is_incomplete || state.routes_stale {
        true => Err(NetlinkError::Interrupted),
        false => Ok(state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_no_answer() {
        assert!(whole(State::default()).is_ok());
        let parts =
            [State { is_incomplete: true, ..State::default() }, State { routes_stale: true, ..State::default() }];
        for part in parts {
            assert!(matches!(whole(part), Err(NetlinkError::Interrupted)));
        }
    }
}
