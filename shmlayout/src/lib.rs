//! The memory that Shunt's processes share.
//!
//! This crate knows how each region is laid out, how it is created, attached and checked, and the lock-free protocols
//! in it: the flip of the configuration table, the connection table's claim and publish, the ring. It knows no packet
//! and does no other input or output. The map of the regions is in the project's ARCHITECTURE.md.
//!
//! Everything shared is made of atomics: no reference to plain bytes that another process may write exists. The
//! protocols run under `loom` too (`RUSTFLAGS="--cfg loom" cargo test -p shmlayout --release loom_`).

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
