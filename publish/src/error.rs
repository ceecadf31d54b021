//! What can be in the way of a publication.

use std::net::SocketAddr;

use shunt_config::{Problem, Source};
use shunt_shmlayout::endpoints::Endpoint;

/// A configuration that the memory made at start-up has no room for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapacityError {
    /// Every id is in use.
    #[error(
        "is one {kind} too many: limits.{kind}s is {limit}, and {leaving} that left the configuration still have \
         connections; raise the limit and restart Shunt, or wait until they are gone"
    )]
    Ids {
        /// "service" or "backend".
        kind: &'static str,
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
    /// Too many pairs of service and backend, with those that left the configuration.
    #[error(
        "is too much for one reload: with those that left the configuration there are {wanted} pairs of service and \
         back-end, the memory has room for {limit}; replace them in several steps, wait until connections to those that \
         left are gone, or raise limits.backends and restart Shunt"
    )]
    Stale {
        /// How many there would be.
        wanted: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The endpoint hash has no place for an address.
    #[error("{at} finds no place in the endpoint table; raise limits.backends and restart Shunt")]
    Endpoints {
        /// Address and port, or an address as such.
        at: String,
    },
}

/// What of a configuration can't be published, and why not.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Unpublishable {
    /// Path of the field in the configuration.
    pub field: String,
    /// What there is no room for.
    pub reason: CapacityError,
}

impl Unpublishable {
    /// The same with file and line.
    pub fn problem(&self, source: &Source) -> Problem {
        source.problem(self.field.as_str(), self.reason.to_string())
    }
}

/// The endpoint hash of a generation has no place for an address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at} finds no place in the endpoint table; the last table stays active")]
pub struct WriteError {
    /// The address.
    pub at: SocketAddr,
    /// What it leads to.
    pub endpoint: Endpoint,
}
