//! The keyed hash of a connection's two sides. SipHash-1-3: an attacker cannot choose tuples that collide in a bucket, and
//! all builds compute the same value, so switchers of two builds can share the table during an upgrade.

use crate::address::{Address, PortBe};
use core::hash::Hasher;
use siphasher::sip::SipHasher13;

/// Which of the two indexes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// `id` is a service's.
    Client,
    /// `id` is a backend's.
    Backend,
}

/// One side of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// The index that the key is for.
    pub side: Side,
    /// The client's address.
    pub client: Address,
    /// The client's port.
    pub client_port: PortBe,
    /// Service or backend id, depending on `side`.
    pub id: u16,
}

/// The secret key of the hash, generated when the region is created.
#[derive(Clone, Copy)]
pub struct HashKey(pub [u64; 2]);

impl HashKey {
    /// Hashes a key. The low half selects the first bucket; the high 22 bits are the tag (`index.rs`). The client side's high
    /// half also selects the cell of the service's slots.
    #[inline]
    pub fn hash(&self, key: &Key) -> u64 {
        let mut bytes = [0u8; 24];
        bytes[..16].copy_from_slice(&key.client.0);
        bytes[16..18].copy_from_slice(&key.client_port.0);
        bytes[18..20].copy_from_slice(&key.id.to_le_bytes());
        bytes[20] = key.side as u8;
        let mut hasher = SipHasher13::new_with_keys(self.0[0], self.0[1]);
        hasher.write(&bytes);
        hasher.finish()
    }
}
