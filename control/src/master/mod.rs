//! The master: computes a service's load distribution data (slots) from its backends' state.
//!
//! Patent Fig. 4, "master": it alone decides how new connections are distributed. Pure: it reads plain values and fills a
//! slice; another module publishes it to shared memory.

pub mod even;
pub mod feedback;
#[cfg(test)]
pub(crate) mod simulation;
