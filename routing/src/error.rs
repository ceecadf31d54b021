//! What can go wrong between control and the kernel.

use std::io;

/// A failure of netlink.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket.
    #[error("cannot open a netlink socket: {0}; is AF_NETLINK allowed here (systemd: RestrictAddressFamilies)?")]
    Open(#[source] io::Error),
    /// A group can't be joined.
    #[error("cannot follow the kernel's {what}: {source}")]
    Subscribe {
        /// Which changes.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The socket failed in operation.
    #[error("netlink socket failed: {0}")]
    Socket(#[from] io::Error),
    /// The kernel said no.
    #[error("the kernel refused to {what}: {source}{}", remedy(source))]
    Refused {
        /// To do what.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// There is no list of one moment.
    #[error("changes of the network went on interrupting the kernel's lists; try again when they are over")]
    Interrupted,
}

fn remedy(refusal: &io::Error) -> &'static str {
    match refusal.kind() {
        io::ErrorKind::PermissionDenied => "; run control as root or give it CAP_NET_ADMIN",
        _ => "",
    }
}
