//! Internet addresses and transport ports, as packets and shared memory have them.
//!
//! The packet parser and the memory layout share these types without depending on each other.
//! An address is 16 bytes in network order. IPv4 is mapped as `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2), so every table
//! is independent of the address family.
#![forbid(unsafe_code)]

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// An IP address, 16 bytes in network order.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct Address(pub [u8; 16]);

impl Address {
    /// The mapped form of four IPv4 bytes.
    #[inline]
    pub const fn from_v4(a: [u8; 4]) -> Self {
        // Built from two whole words: narrower stores would defeat store-to-load forwarding.
        Self::from_words([0, u64::from_ne_bytes([0, 0, 0xff, 0xff, a[0], a[1], a[2], a[3]])])
    }

    /// The four IPv4 bytes, if this is a mapped IPv4 address.
    #[inline]
    pub fn v4(&self) -> Option<[u8; 4]> {
        match self.0 {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Some([a, b, c, d]),
            _ => None,
        }
    }

    /// The address as an integer, for comparing route intervals.
    #[inline]
    pub const fn number(&self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    /// The address as two words in memory order, for hashing and for entries made of 64-bit atomics.
    #[inline]
    pub const fn words(&self) -> [u64; 2] {
        let n = u128::from_ne_bytes(self.0);
        [n as u64, (n >> 64) as u64]
    }

    /// Hashes the address and `with` into one word. `with` is multiplied over all bits first; a folded multiplication (the
    /// mixing step of wyhash) then lets every input bit affect every output bit. Unkeyed: use it only for tables whose keys
    /// the operator chooses.
    #[inline]
    pub fn mix(&self, with: u64) -> u64 {
        let [a, b] = self.words();
        let spread = with.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        folded_product(b ^ spread ^ 0xa076_1d64_78bd_642f, a ^ 0xe703_7ed1_a0b4_28db)
    }

    /// The inverse of [`Address::words`].
    #[inline]
    pub const fn from_words(words: [u64; 2]) -> Self {
        Self((((words[1] as u128) << 64) | words[0] as u128).to_ne_bytes())
    }
}

/// Both halves of the 128-bit product, folded into one word.
#[inline]
fn folded_product(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::from_v4(v4.octets()),
            IpAddr::V6(v6) => Self(v6.octets()),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        match address.v4() {
            Some(v4) => IpAddr::V4(Ipv4Addr::from(v4)),
            None => IpAddr::V6(Ipv6Addr::from(address.0)),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A TCP or UDP port, two bytes in network order.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct PortBe(pub [u8; 2]);

impl PortBe {
    /// No port, for protocols without ports.
    pub const ZERO: Self = Self([0; 2]);

    /// Converts a port from host order.
    #[inline]
    pub const fn new(port: u16) -> Self {
        Self(port.to_be_bytes())
    }

    /// The port in host order.
    #[inline]
    pub const fn get(self) -> u16 {
        u16::from_be_bytes(self.0)
    }
}

impl fmt::Display for PortBe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl fmt::Debug for PortBe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// IP protocol number of TCP (RFC 9293).
pub const TCP: u8 = 6;
/// IP protocol number of UDP (RFC 768).
pub const UDP: u8 = 17;

/// A transport protocol that services use.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Protocol {
    /// TCP.
    Tcp = TCP,
    /// UDP.
    Udp = UDP,
}

impl Protocol {
    /// Its IP protocol number.
    #[inline]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Decodes an IP protocol number; `None` if services don't support it.
    #[inline]
    pub const fn of(code: u8) -> Option<Self> {
        match code {
            TCP => Some(Self::Tcp),
            UDP => Some(Self::Udp),
            _ => None,
        }
    }

    /// The name in tables and in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}
