//! Messages between the processes of one instance; the memory that they share is elsewhere.
//!
//! `handover` transfers descriptors from the keeper to switchers and the interface daemon; `admin` carries the operator's
//! commands to control. `port` and `socket` are what both ends of a handed-over socket must agree on: the keeper opens it,
//! the switcher uses it. `idle` and `limits` are settings that both check. Each end is a process of its own; neither links
//! the other.

pub mod admin;
pub mod handover;
pub mod idle;
pub mod limits;
pub mod port;
pub mod socket;
