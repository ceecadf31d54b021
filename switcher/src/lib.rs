//! Placeholder.

pub mod bpf;
pub mod handover;
pub mod packet;
pub mod port;
