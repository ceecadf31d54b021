//! The forwarding modes: everything that makes one different from another is its entry in [`Mode::traits`].
//!
//! A new mode is a variant and an entry. What it needs that no mode had before is a new variant of [`ToBackend`] or
//! [`Replies`], and the compiler then names each place in the switcher that has to do it.

use crate::coded::coded;
use crate::frames::HEADROOM;

coded! {
    "How a service's packets reach its backend and come back." Mode:
    /// Direct server return: the backend has the service's address, too, and answers the client itself.
    Dsr = 1, "dsr";
    /// Network address translation: address and port are re-written, both ways.
    Nat = 2, "nat";
}

/// What a client's packet becomes on its way to the backend, besides its Ethernet addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ToBackend {
    /// It stays as it is.
    Unchanged,
    /// Destination address and port become the backend's.
    BackendAsDestination,
}

/// How a backend's packets reach the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replies {
    /// Past Shunt, which doesn't see them.
    Bypass,
    /// Through Shunt: source address and port become the service's.
    ServiceAsSource,
}

/// What makes a mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModeTraits {
    /// Towards the backend.
    pub to_backend: ToBackend,
    /// Towards the client.
    pub replies: Replies,
    /// Whether Shunt is a router on the way (RFC 1812): it decrements the time to live, and answers where that ends.
    pub routes: bool,
    /// Bytes that it puts before a frame at most.
    pub head_room: u64,
}

impl Mode {
    /// What makes this mode.
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

    /// Whether a backend's packets to the client come through Shunt.
    #[inline]
    pub const fn sees_replies(self) -> bool {
        match self.traits().replies {
            Replies::Bypass => false,
            Replies::ServiceAsSource => true,
        }
    }
}

// Each mode fits before a received frame.
const _: () = {
    let mut index = 0;
    while index < Mode::ALL.len() {
        assert!(Mode::ALL[index].traits().head_room <= HEADROOM);
        index += 1;
    }
};
