//! The kernel asked and followed by netlink, the same for every process.
//!
//! `requests` is the one loop that sends a request and reads its answers; `socket` opens sockets and takes datagrams apart,
//! for it and for whoever follows events. No meaning is given to messages here. What the kernel could not deliver
//! (ENOBUFS) or this side could not hold (EMSGSIZE) is an error of [`receive`], never a silence.
#![forbid(unsafe_code)]

mod interface;
mod requests;
mod socket;

pub use interface::addresses_of;
pub use requests::{Dump, MAX_DUMPS, Requests};
pub use socket::{DATAGRAM_BYTES, enlarge, for_each_message, open, receive};
