//! The master: turns what is known of a service's backends into its load distribution data (slots).
//!
//! Patent Fig. 4, "master": it alone decides how new connections are shared out. Pure: it takes plain values and fills
//! a slice; publication into shared memory is another module's work.

pub mod even;
pub mod feedback;
#[cfg(test)]
pub(crate) mod simulation;
