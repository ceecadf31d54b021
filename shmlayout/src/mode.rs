//! The forwarding modes. All differences between modes are in [`Mode::traits`].
//!
//! A new mode is a variant and an entry there. Behaviour that no mode had before is a new variant of [`ToBackend`] or
//! [`Replies`]; the compiler then reports each place in the switcher that must implement it.

use crate::coded::coded;
use crate::frames::HEADROOM;

coded! {
    "How a service's packets reach its backend and come back." Mode:
    /// Direct server return: the backend has the service's address, too, and answers the client itself.
    Dsr = 1, "dsr";
    /// Network address translation: address and port are re-written, both ways.
    Nat = 2, "nat";
}

/// How a client's packet is rewritten towards the backend, besides its Ethernet addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ToBackend {
    /// Not at all.
    Unchanged,
    /// Destination address and port become the backend's.
    BackendAsDestination,
}

/// How a backend's packets reach the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replies {
    /// Directly, bypassing Shunt.
    Bypass,
    /// Through Shunt: source address and port become the service's.
    ServiceAsSource,
}

/// The properties of a mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModeTraits {
    /// Towards the backend.
    pub to_backend: ToBackend,
    /// Towards the client.
    pub replies: Replies,
    /// Whether Shunt acts as a router (RFC 1812): it decrements the time to live, and answers when it is exceeded.
    pub routes: bool,
    /// Limit of the bytes prepended to a packet.
    pub head_room: u64,
}

impl Mode {
    /// The mode's properties.
    #[inline]
    pub const fn traits(self) -> ModeTraits {
        match self {
            Self::Dsr => {
                ModeTraits { to_backend: ToBackend::Unchanged, replies: Replies::Bypass, routes: false, head_room: 0 }
            }
            Self::Nat => ModeTraits {
                to_backend: ToBackend::BackendAsDestination,
                replies: Replies::ServiceAsSource,
                routes: true,
                head_room: 0,
            },
        }
    }

    /// Whether a backend's packets to the client pass through Shunt.
    #[inline]
    pub const fn sees_replies(self) -> bool {
        match self.traits().replies {
            Replies::Bypass => false,
            Replies::ServiceAsSource => true,
        }
    }
}

// Every mode's head room is available in received frames.
const _: () = {
    let mut index = 0;
    while index < Mode::ALL.len() {
        assert!(Mode::ALL[index].traits().head_room <= HEADROOM);
        index += 1;
    }
};
