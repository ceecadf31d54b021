//! Large packets between kernel and daemon: the kernel's stack processes many TCP segments at the cost of one.
//!
//! ```text
//!  from the kernel   vnet header | up to 64 kB   -> segment   packets of the device's MTU, checksums filled in
//!  to the kernel     consecutive segments        -> coalesce  vnet header | up to 64 kB
//! ```
//!
//! Pure: bytes in and out, tested against simple models. Unused without offloads.

pub mod coalesce;
pub mod segment;
pub mod vnet_header;

#[cfg(test)]
mod tests;
