//! The mutable state of a connection: words 4 and 5 of its entry, each with the low bits of the generation.

use super::entry::EntryGeneration;
use crate::address::InterfaceId;

/// State of a connection (RFC 9293 section 3.3.2, as far as a middlebox can see it).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// Ended permanently: no lookup finds it. Its slots are being cleared; then the owner of its chunk frees it.
    Dead = 0,
    /// The client has sent its SYN.
    Opening = 1,
    /// Open; also a UDP flow.
    Established = 2,
    /// One side has sent its FIN.
    Closing = 3,
    /// Both sides have sent their FIN, or one its RST.
    Closed = 4,
}

impl State {
    fn from_bits(bits: u8) -> Self {
        match bits & 0xf {
            1 => Self::Opening,
            2 => Self::Established,
            3 => Self::Closing,
            4 => Self::Closed,
            _ => Self::Dead, // no switcher writes another value
        }
    }
}

/// The activity of a connection: time of its last packet, state and flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Activity {
    /// When its last packet was seen, in milliseconds of CLOCK_MONOTONIC (40 bits: 34 years).
    pub last_seen_ms: u64,
    /// Its state.
    pub state: State,
    /// [`Activity::CLIENT_FIN`] and the like.
    pub flags: u8,
}

impl Activity {
    /// The client has sent its FIN.
    pub const CLIENT_FIN: u8 = 1;
    /// The backend has sent its FIN.
    pub const BACKEND_FIN: u8 = 2;
    /// The backend has answered; for TCP, to the SYN.
    pub const ANSWERED: u8 = 4;
    /// The first FIN or RST has been seen. The switcher that set the flag counted the connection as no longer in flight.
    pub const ENDED: u8 = 8;
    /// A switcher sent the client a reset because the connection is stale.
    pub const CLIENT_RESET: u8 = 16;
    /// A switcher sent the backend a reset because the connection is stale.
    pub const BACKEND_RESET: u8 = 32;
    /// Recording is complete: both indexes have the connection, and it has no rival. Until this flag is set, a rival's switcher
    /// or the owner's successor may withdraw the connection.
    pub const RECORDED: u8 = 64;

    const GENERATION_SHIFT: u32 = 12;
    /// The activity of a connection whose entry has been reused.
    pub(super) const GONE: Self = Self { last_seen_ms: 0, state: State::Dead, flags: 0 };

    /// The same activity in state [`State::Dead`].
    pub(super) fn dead(self) -> Self {
        Self { state: State::Dead, ..self }
    }

    pub(super) fn is_recorded(self) -> bool {
        self.flags & Self::RECORDED != 0
    }

    #[inline]
    pub(super) fn is_of(word: u64, generation: EntryGeneration) -> bool {
        EntryGeneration::from_low_bits(word >> Self::GENERATION_SHIFT) == generation
    }

    /// Whether a word is of this generation and its connection is not dead.
    #[inline]
    pub(super) fn is_alive(word: u64, generation: EntryGeneration) -> bool {
        let state = (word >> 8) as u16 ^ (generation.low_bits() << 4) as u16; // cancels an equal generation
        (State::Opening as u16..=State::Closed as u16).contains(&state)
    }

    #[inline]
    pub(super) fn word(self, generation: EntryGeneration) -> u64 {
        self.last_seen_ms << 24
            | generation.low_bits() << Self::GENERATION_SHIFT
            | (self.state as u64) << 8
            | u64::from(self.flags)
    }

    #[inline]
    pub(super) fn from_word(word: u64) -> Self {
        Self { last_seen_ms: word >> 24, state: State::from_bits((word >> 8) as u8), flags: word as u8 }
    }
}

/// Where the client's last packet came from: the fallback for replies while the neighbour is unresolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LastHop {
    /// The sender's Ethernet address.
    pub mac: [u8; 6],
    /// The interface that received it.
    pub interface: InterfaceId,
}

impl LastHop {
    const INTERFACE_SHIFT: u32 = 54;
    const GENERATION_SHIFT: u32 = 48;
    const GENERATION_BITS: u64 = 0x3f;

    #[inline]
    pub(super) fn word(self, generation: EntryGeneration) -> u64 {
        let [a, b, c, d, e, f] = self.mac;
        u64::from(self.interface.0) << Self::INTERFACE_SHIFT
            | (generation.low_bits() & Self::GENERATION_BITS) << Self::GENERATION_SHIFT
            | u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    #[inline]
    pub(super) fn from_word(word: u64) -> Self {
        let [_, _, a, b, c, d, e, f] = word.to_be_bytes();
        Self { mac: [a, b, c, d, e, f], interface: InterfaceId((word >> Self::INTERFACE_SHIFT) as u16) }
    }

    #[inline]
    pub(super) fn is_of(word: u64, generation: EntryGeneration) -> bool {
        (word >> Self::GENERATION_SHIFT ^ generation.low_bits()) & Self::GENERATION_BITS == 0
    }
}
