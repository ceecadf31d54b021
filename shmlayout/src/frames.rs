//! The frame pools: how large a frame is, and how shared memory says who owns each one.
//!
//! The owner bytes and the journals stand in a switcher's region (`regions::switcher`). The switcher writes them; the
//! keeper does while none lives.

use crate::access::Writer;
use crate::sync::Ordering;
use crate::word::{Word8, Word32};

/// Bytes of a frame's place in the pool, headroom included.
pub const CHUNK: u64 = 2048;
/// Bytes kept free before a frame's first byte (XDP_PACKET_HEADROOM; received frames start there).
pub const HEADROOM: u64 = 256;

/// Who owns a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The switcher, in hand or in its free list.
    Held,
    /// On its way to a ring; the ring's slots tell whether it arrived.
    Pending,
    /// The kernel, for a packet to be received at this port; or a packet received but not taken yet.
    Receiving(u8),
    /// The kernel, for a packet being sent at this port; or sent but not taken back yet.
    Transmitting(u8),
}

impl Owner {
    /// Ports are numbered below this, so that the owner fits a byte.
    pub const PORTS: u8 = 127;

    /// The byte that stands for this owner.
    pub const fn byte(self) -> u8 {
        match self {
            Owner::Held => 0,
            Owner::Pending => 1,
            Owner::Receiving(port) => 2 + 2 * port,
            Owner::Transmitting(port) => 3 + 2 * port,
        }
    }

    /// The owner that a byte stands for.
    pub const fn of(byte: u8) -> Owner {
        match byte {
            0 => Owner::Held,
            1 => Owner::Pending,
            byte if byte.is_multiple_of(2) => Owner::Receiving((byte - 2) / 2),
            byte => Owner::Transmitting((byte - 3) / 2),
        }
    }
}

/// Takes back all that a port's rings held, because its socket was closed. Only while no switcher uses the pool.
/// `owners` has one byte a frame, `journal` two words a port.
pub fn forget(owners: &[Word8<Writer>], journal: &[Word32<Writer>], port: u8) {
    for byte in owners {
        let owner = Owner::of(byte.load(Ordering::Acquire));
        if owner == Owner::Receiving(port) || owner == Owner::Transmitting(port) {
            byte.store(Owner::Held.byte(), Ordering::Release);
        }
    }
    if let Some(words) = journal.as_chunks::<2>().0.get(usize::from(port)) {
        words.iter().for_each(|word| word.store(0, Ordering::Release));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_owner_survives_its_byte() {
        for port in 0..Owner::PORTS {
            for owner in [Owner::Held, Owner::Pending, Owner::Receiving(port), Owner::Transmitting(port)] {
                assert_eq!(Owner::of(owner.byte()), owner);
            }
        }
    }

    #[test]
    fn a_closed_port_s_frames_are_held_and_no_other_s() {
        let owners = [Owner::Receiving(1), Owner::Transmitting(1), Owner::Receiving(2), Owner::Pending];
        let owners = owners.map(|owner| Word8::<Writer>::new(owner.byte()));
        let journal = [1, 2, 3, 4].map(Word32::<Writer>::new);
        forget(&owners, &journal, 1);
        let left = owners.map(|byte| Owner::of(byte.load(Ordering::Relaxed)));
        assert_eq!(left, [Owner::Held, Owner::Held, Owner::Receiving(2), Owner::Pending]);
        assert_eq!(journal.map(|word| word.load(Ordering::Relaxed)), [1, 2, 0, 0]);
    }
}
