//! Words that name things in every region: addresses, transport ports, ids.

use core::fmt;

pub use shunt_address::{Address, PortBe, Protocol, TCP, UDP};

/// Index of a service in the configuration table; keeps its meaning from one epoch to the next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ServiceId(pub u16);

/// Index of a backend (address, port and protocol) in the configuration table; keeps its meaning from one epoch to the
/// next, and is given to another backend only when no connection names it any more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BackendId(pub u16);

/// Index of a network interface in the keeper's table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct InterfaceId(pub u16);

impl InterfaceId {
    /// None of the table: the pseudo-interface, behind which are the box's own programs. The highest number that a
    /// connection's last hop has room for.
    pub const HOST: Self = Self((1 << 10) - 1);
}

/// Index of an entry in the neighbour table (ARP cache).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NeighbourId(pub u32);

impl NeighbourId {
    /// No neighbour known: the next hop isn't resolved, or there is no route.
    pub const NONE: Self = Self(u32::MAX);
}

/// A 48-bit Ethernet address as the low bits of a word; bit 63 tells a known address from none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    const KNOWN: u64 = 1 << 63;

    /// The word that stands for this address.
    #[inline]
    pub const fn word(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        Self::KNOWN | u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// The address a word stands for; `None` for a word that says "unknown".
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
