//! Publication: builds the configuration table that switchers read from control's state (patent Fig. 4, configuration table
//! 64 with its two buffers, routing table 62, ARP cache).
//!
//! ```text
//!  Config, health, drain --> Table  \      (a reload's first into memory of its own: rehearsal)
//!  active generation ----> (recover)  > Image --> idle generation --> flip
//!  netlink's State ------> Fib     /                        (publisher)
//!                     \--> ArpCache (in place: one word a neighbour)
//! ```
//!
//! `table` and `fib` (the forwarding table) are plain values, `image` combines them into records, `publisher` decides when
//! a buffer may be filled and flipped. Only control writes the region; a restarted control starts from it (`recover`).

pub mod agents;
pub mod arp_cache;
pub mod candidate;
mod capability;
mod convert;
pub mod error;
mod feedback;
pub mod fib;
pub mod health;
pub mod identity;
pub mod image;
mod maglev;
pub mod own;
pub mod publisher;
mod recover;
pub mod rehearsal;
pub mod retirement;
pub mod service;
pub mod stale;
pub mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod weights;

#[cfg(test)]
mod tests;
