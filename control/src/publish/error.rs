//! What can be in the way of a publication.

use std::net::SocketAddr;

/// A configuration that the memory made at start-up has no room for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapacityError {
    /// Every id is in use.
    #[error(
        "{name} is one {kind} too many: limits.{kind}s is {limit}, and {leaving} that left the configuration still have \
         connections; raise the limit and restart Shunt, or wait until they are gone"
    )]
    Ids {
        /// "service" or "backend".
        kind: &'static str,
        /// The first that found no place.
        name: String,
        /// How many there may be.
        limit: usize,
        /// How many of them left the configuration and are kept for their connections.
        leaving: usize,
    },
    /// The tables of all services together are too large.
    #[error("the tables of all services take {wanted} slots, limits.slots is {limit}; raise it and restart Shunt")]
    Slots {
        /// How many the configuration wants.
        wanted: usize,
        /// How many there are.
        limit: usize,
    },
    /// Too many pairs of service and backend.
    #[error(
        "the services name {wanted} backends in all, the memory has room for {limit}; raise limits.backends and restart Shunt"
    )]
    Members {
        /// How many the configuration wants.
        wanted: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Too many ranges of clients.
    #[error(
        "the rules of all services tell {wanted} ranges of clients apart, the memory has room for {limit}; raise \
         limits.services and restart Shunt, or write fewer networks"
    )]
    Classes {
        /// How many the configuration wants.
        wanted: usize,
        /// How many there may be.
        limit: usize,
    },
}

/// The endpoint hash has no place for an address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{at} finds no place in the endpoint table; raise limits.backends and restart Shunt. The last table stays active"
)]
pub struct WriteError {
    /// The address.
    pub at: SocketAddr,
}
