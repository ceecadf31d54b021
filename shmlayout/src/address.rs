//! Types used in every region: addresses, transport ports, ids.

use core::fmt;

pub use shunt_address::{Address, PortBe, Protocol, TCP, UDP};

/// Index of a service in the configuration table. Stable across epochs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ServiceId(pub u16);

/// Index of a backend (address, port and protocol) in the configuration table. Stable across epochs; reused only when no
/// connection refers to it any more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BackendId(pub u16);

/// Index of a network interface in the keeper's table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct InterfaceId(pub u16);

impl InterfaceId {
    /// The pseudo-interface to programs on this machine; not in the table. The highest number that fits in a connection's
    /// last hop.
    pub const HOST: Self = Self((1 << 10) - 1);
}

/// Index of an entry in the neighbour table (ARP cache).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NeighbourId(pub u32);

impl NeighbourId {
    /// No neighbour: the next hop is unresolved, or there is no route.
    pub const NONE: Self = Self(u32::MAX);
}

/// A 48-bit Ethernet address. As a word, it is the low 48 bits; bit 63 marks a known address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    const KNOWN: u64 = 1 << 63;

    /// Encodes the address as a word.
    #[inline]
    pub const fn word(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        Self::KNOWN | u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// Decodes a word; `None` if the address is unknown.
    #[inline]
    pub const fn from_word(word: u64) -> Option<Self> {
        if word & Self::KNOWN == 0 {
            return None;
        }
        let [_, _, a, b, c, d, e, f] = word.to_be_bytes();
        Some(Self([a, b, c, d, e, f]))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}
