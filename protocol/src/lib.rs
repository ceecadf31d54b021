//! What the processes of one instance say to each other, apart from the memory that they share.
//!
//! `handover` is how switchers and the interface daemon get their descriptors from the keeper, `admin` how the operator's
//! command gives orders to control. `port` and `socket` are what both ends of a handed-over socket must know: the keeper
//! opens it, the switcher uses it. `idle` and `limits` are settings that both check. Each side is a process of its own;
//! neither links the other.

pub mod admin;
pub mod handover;
pub mod idle;
pub mod limits;
pub mod port;
pub mod socket;
