//! Errors of netlink requests and subscriptions.

use std::io;

/// A failure of netlink.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket could not be opened.
    #[error("cannot open a netlink socket: {0}; is AF_NETLINK allowed here (systemd: RestrictAddressFamilies)?")]
    Open(#[source] io::Error),
    /// A multicast group could not be joined.
    #[error("cannot follow the kernel's {what}: {source}")]
    Subscribe {
        /// The kind of change.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The socket failed in operation.
    #[error("netlink socket failed: {0}")]
    Socket(#[from] io::Error),
    /// The kernel refused a request.
    #[error("the kernel refused to {what}: {source}{}", remedy(source))]
    Refused {
        /// The request, as a verb phrase.
        what: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// Changes interrupted every attempt at a dump.
    #[error(
        "network changes interrupted every attempt to list the kernel's state; try again when the network is quiet"
    )]
    Interrupted,
}

fn remedy(refusal: &io::Error) -> &'static str {
    match refusal.kind() {
        io::ErrorKind::PermissionDenied => "; run control as root or give it CAP_NET_ADMIN",
        _ => "",
    }
}
