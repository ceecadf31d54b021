//! Netlink requests and events, for every process.
//!
//! `requests` is the only request loop; `socket` opens sockets and splits datagrams into messages, for requests and for
//! event subscribers. This crate does not interpret messages. [`receive`] returns an error for events that the kernel could
//! not deliver (ENOBUFS) and for a datagram larger than the buffer (EMSGSIZE); nothing is lost silently.
#![forbid(unsafe_code)]

mod interface;
mod requests;
mod socket;

pub use interface::addresses_of;
pub use requests::{Dump, MAX_DUMPS, RequestSocket};
pub use socket::{DATAGRAM_BYTES, enlarge, for_each_message, open, receive};
