//! The memory that Shunt's processes share.
//!
//! This crate defines the layout of each region, creates, attaches and checks regions, and implements their lock-free
//! protocols: the flip of the configuration table, claim and publish in the connection table, the rings. It does not parse
//! packets and does no other I/O. ARCHITECTURE.md has the map of the regions.
//!
//! All shared data is atomic: there is no reference to plain bytes that another process may write. The protocols are also
//! model-checked with `loom` (`RUSTFLAGS="--cfg loom" cargo test -p shmlayout --release loom_`).

pub mod access;
pub mod address;
#[cfg(not(loom))]
pub mod clock;
pub mod coded;
#[cfg(not(loom))]
pub mod config_table;
pub mod connections;
mod counted;
pub mod drop_reason;
#[cfg(not(loom))]
pub mod endpoints;
pub mod flip;
pub mod frames;
#[cfg(not(loom))]
pub mod header;
mod kill;
pub mod layout;
#[cfg(not(loom))]
pub mod loads;
#[cfg(not(loom))]
pub mod map;
pub mod mode;
pub mod neighbours;
pub mod notice;
pub mod record;
#[cfg(not(loom))]
pub mod regions;
pub mod replay;
pub mod report_outcome;
pub mod ring;
#[cfg(not(loom))]
pub mod service;
pub mod store;
pub mod sync;
pub mod word;
