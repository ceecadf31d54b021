//! Placeholder.

pub mod packet;
pub mod port;
