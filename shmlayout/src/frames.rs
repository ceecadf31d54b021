//! The frame pools: frame size, and the ownership of each frame as recorded in shared memory.
//!
//! Owner bytes and journals are in a switcher's region (`regions::switcher`). The switcher writes them; while it is not
//! running, the keeper does.

use crate::access::Writer;
use crate::sync::Ordering;
use crate::word::{Word8, Word32};

/// Bytes of a frame in the pool, headroom included.
pub const CHUNK: u64 = 2048;
/// Bytes reserved before the packet's first byte (XDP_PACKET_HEADROOM); received packets start there.
pub const HEADROOM: u64 = 256;

/// Who owns a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameOwner {
    /// The switcher: in use or in its free list.
    Held,
    /// Being moved to a ring; the ring's slots show whether it arrived.
    Pending,
    /// The kernel, for receiving at this port; or received but not taken yet.
    Receiving(u8),
    /// The kernel, for sending at this port; or sent but not reclaimed yet.
    Transmitting(u8),
}

impl FrameOwner {
    /// Upper bound of port numbers, exclusive, so that an owner fits in a byte.
    pub const PORTS: u8 = 127;

    /// Encodes the owner.
    pub const fn byte(self) -> u8 {
        match self {
            FrameOwner::Held => 0,
            FrameOwner::Pending => 1,
            FrameOwner::Receiving(port) => 2 + 2 * port,
            FrameOwner::Transmitting(port) => 3 + 2 * port,
        }
    }

    /// Decodes an owner byte.
    pub const fn of(byte: u8) -> FrameOwner {
        match byte {
            0 => FrameOwner::Held,
            1 => FrameOwner::Pending,
            byte if byte.is_multiple_of(2) => FrameOwner::Receiving((byte - 2) / 2),
            byte => FrameOwner::Transmitting((byte - 3) / 2),
        }
    }
}

/// Reclaims all frames in a port's rings after its socket was closed. Call it only while no switcher uses the pool.
/// `owners` has one byte per frame, `journal` two words per port.
pub fn reclaim(owners: &[Word8<Writer>], journal: &[Word32<Writer>], port: u8) {
    for byte in owners {
        let owner = FrameOwner::of(byte.load(Ordering::Acquire));
        if owner == FrameOwner::Receiving(port) || owner == FrameOwner::Transmitting(port) {
            byte.store(FrameOwner::Held.byte(), Ordering::Release);
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
        for port in 0..FrameOwner::PORTS {
            for owner in
                [FrameOwner::Held, FrameOwner::Pending, FrameOwner::Receiving(port), FrameOwner::Transmitting(port)]
            {
                assert_eq!(FrameOwner::of(owner.byte()), owner);
            }
        }
    }

    #[test]
    fn a_closed_port_s_frames_are_held_and_no_other_s() {
        let owners =
            [FrameOwner::Receiving(1), FrameOwner::Transmitting(1), FrameOwner::Receiving(2), FrameOwner::Pending];
        let owners = owners.map(|owner| Word8::<Writer>::new(owner.byte()));
        let journal = [1, 2, 3, 4].map(Word32::<Writer>::new);
        reclaim(&owners, &journal, 1);
        let left = owners.map(|byte| FrameOwner::of(byte.load(Ordering::Relaxed)));
        assert_eq!(left, [FrameOwner::Held, FrameOwner::Held, FrameOwner::Receiving(2), FrameOwner::Pending]);
        assert_eq!(journal.map(|word| word.load(Ordering::Relaxed)), [1, 2, 0, 0]);
    }
}
