//! Reasons why a publication fails.

use std::net::SocketAddr;

use shunt_config::{Problem, Source};
use shunt_shmlayout::endpoints::Endpoint;

/// The configuration exceeds the memory that was allocated at start-up.
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
        /// The limit.
        limit: usize,
        /// Number that left the configuration and are kept for their connections.
        leaving: usize,
    },
    /// All services' tables together exceed the slots.
    #[error("the tables of all services take {wanted} slots, limits.slots is {limit}; raise it and restart Shunt")]
    Slots {
        /// Number that the configuration requires.
        wanted: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many pairs of service and backend.
    #[error(
        "the services name {wanted} backends in all, the memory has room for {limit}; raise limits.backends and restart Shunt"
    )]
    Members {
        /// Number that the configuration requires.
        wanted: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many client ranges.
    #[error(
        "the rules of all services tell {wanted} ranges of clients apart, the memory has room for {limit}; raise \
         limits.services and restart Shunt, or write fewer networks"
    )]
    Classes {
        /// Number that the configuration requires.
        wanted: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many pairs of service and backend, including those that left the configuration.
    #[error(
        "is too much for one reload: with those that left the configuration there are {wanted} pairs of service and \
         back-end, the memory has room for {limit}; replace them in several steps, wait until connections to those that \
         left are gone, or raise limits.backends and restart Shunt"
    )]
    Stale {
        /// Number required.
        wanted: usize,
        /// The limit.
        limit: usize,
    },
    /// The endpoint hash table has no free entry for an address.
    #[error("{at} finds no place in the endpoint table; raise limits.backends and restart Shunt")]
    Endpoints {
        /// Address and port, or an address alone.
        at: String,
    },
}

/// The part of a configuration that cannot be published, and why.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Unpublishable {
    /// Path of the field in the configuration.
    pub field: String,
    /// The exceeded capacity.
    pub reason: CapacityError,
}

impl Unpublishable {
    /// Adds file and line.
    pub fn problem(&self, source: &Source) -> Problem {
        source.problem(self.field.as_str(), self.reason.to_string())
    }
}

/// A generation's endpoint hash table has no free entry for an address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at} finds no place in the endpoint table; the last table stays active")]
pub struct WriteError {
    /// The address.
    pub at: SocketAddr,
    /// The service or backend.
    pub endpoint: Endpoint,
}
