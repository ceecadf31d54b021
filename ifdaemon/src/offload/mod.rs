//! Large packets between kernel and daemon: the kernel's stack handles many TCP segments at the price of one.
//!
//! ```text
//!  from the kernel   vnet header | up to 64 kB   -> segment   packets of the device's MTU, checksums filled in
//!  to the kernel     consecutive segments        -> coalesce  vnet header | up to 64 kB
//! ```
//!
//! Pure: plain bytes in and out, tested against plain models. Without offloads nothing here is used.

pub mod coalesce;
pub mod segment;
pub mod vnet_header;

#[cfg(test)]
mod tests;
