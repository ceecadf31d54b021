//! Notices about packets that are forwarded nevertheless, each defined once, like drop reasons.

use crate::counted::counted;

counted! {
    "What is noteworthy about a packet that goes on all the same." Notice:
    /// The reserved bit of the IPv4 flags is set (RFC 791 section 3.1, RFC 3514): the packet is switched like any other.
    ReservedFlag = "reserved_flag",
    /// A connection from the back-end's own link in mode nat. The back-end answers its client directly, and the client
    /// refuses that. Give the back-end a route to the client by way of Shunt, or use mode dsr.
    OnLinkClient = "on_link_client",
}

/// Number of notices.
pub const NOTICES: usize = Notice::ALL.len();
