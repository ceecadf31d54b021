//! Who owns each frame (the "ownership bits" of the patent's Figs 12 and 13), in shared memory, so that a successor of a
//! killed switcher finds every frame exactly once.
//!
//! Writer: the switcher alone (the keeper while none lives). Readers: the successor. One byte a frame:
//!
//! ```text
//!           take, mark             publish, mark
//!   HELD  ---------->  PENDING  ------------------>  RECEIVING p | TRANSMITTING p
//!    ^                                                       |
//!    +--------------- mark, then release the consumer -------+
//! ```
//!
//! A burst into a fill or transmit ring: note where it starts ([`Journal`]), mark each frame pending and write its
//! descriptor, publish the producer, mark each frame as the kernel's, close the window (start = producer). So a pending
//! frame is the kernel's only if it stands in the ring slots `[start, producer)`; and at most one ring's window is open
//! with its frames still pending, because a window is closed before the switcher does anything else.
//! Coming back, a frame is marked held before the consumer is released; if it still stands in a receive or completion
//! ring, the mark came from a switcher killed between the two, and the kernel side has it.
//!
//! All stores are `Release`: a kill shows a prefix of the program's order, and that is what recovery reasons with.

use shunt_shmlayout::access::Writer;
use shunt_shmlayout::frames::{CHUNK, FrameOwner};
use shunt_shmlayout::sync::Ordering;
use shunt_shmlayout::word::{Word8, Word32};

/// Where a kill may strike: the crash model stops the protocol before every store to shared memory.
#[cfg(not(test))]
#[inline(always)]
pub(super) fn before_store() {}
#[cfg(test)]
pub(super) use super::af_xdp::crash_model::before_store;

/// A port's two words in shared memory. AF_XDP: where the burst in progress started in the fill and in the transmit ring.
/// AF_PACKET: the next slot of the receive and of the transmit ring.
#[derive(Debug, Clone, Copy)]
pub struct Journal {
    /// Fill ring (AF_XDP), receive ring (AF_PACKET).
    pub receive: &'static Word32<Writer>,
    /// Transmit ring.
    pub transmit: &'static Word32<Writer>,
}

/// The owners of all frames of a pool and the journals of its ports.
#[derive(Debug, Clone, Copy)]
pub struct Ledger {
    owners: &'static [Word8<Writer>],
    journals: &'static [[Word32<Writer>; 2]],
}

/// Which frames stand in a port's rings, as recovery reads them: addresses, unchecked.
#[derive(Debug, Default, Clone)]
pub struct Standing {
    /// The port's number.
    pub port: u8,
    /// In the fill ring's slots of the last burst, as far as published.
    pub fill_burst: Vec<u64>,
    /// In the transmit ring's slots of the last burst, as far as published.
    pub transmit_burst: Vec<u64>,
    /// In the receive ring, not released.
    pub received: Vec<u64>,
    /// In the completion ring, not released.
    pub completed: Vec<u64>,
    /// The fill ring's producer.
    pub fill_producer: u32,
    /// The transmit ring's producer.
    pub transmit_producer: u32,
}

impl Ledger {
    /// Over the shared bytes, one a frame, and words, two a port. Ports that an owner byte can't name get no journal.
    pub fn new(owners: &'static [Word8<Writer>], journal: &'static [Word32<Writer>]) -> Ledger {
        let journals = journal.as_chunks().0;
        Ledger { owners, journals: &journals[..journals.len().min(usize::from(FrameOwner::PORTS))] }
    }

    /// How many frames it knows.
    pub fn frames(&self) -> usize {
        self.owners.len()
    }

    /// Who owns the frame at `address`.
    pub fn owner(&self, address: u64) -> Option<FrameOwner> {
        self.owners.get((address / CHUNK) as usize).map(|byte| FrameOwner::of(byte.load(Ordering::Acquire)))
    }

    #[inline]
    pub(super) fn mark(&self, address: u64, owner: FrameOwner) {
        if let Some(byte) = self.owners.get((address / CHUNK) as usize) {
            before_store();
            byte.store(owner.byte(), Ordering::Release);
        }
    }

    /// A port's journal. Its number was checked when the port was mapped.
    #[inline]
    pub(super) fn journal(&self, port: u8) -> Journal {
        let [receive, transmit] = &self.journals[usize::from(port)];
        Journal { receive, transmit }
    }

    /// Whether there is a journal for this port number.
    pub fn has_port(&self, port: u8) -> bool {
        usize::from(port) < self.journals.len()
    }

    /// Settles every frame's owner after a predecessor's death and returns the numbers of the frames that are held.
    ///
    /// Each store tells the truth by itself, and windows are closed last, so that a kill in here changes nothing.
    pub(super) fn recover(&self, ports: &[Standing]) -> Vec<u32> {
        let before: Vec<u8> = self.owners.iter().map(|byte| byte.load(Ordering::Acquire)).collect();
        let mut after = before.clone();
        settle(&mut after, ports);
        for (frame, (old, new)) in before.iter().zip(&after).enumerate() {
            if old != new {
                self.mark(frame as u64 * CHUNK, FrameOwner::of(*new));
            }
        }
        for standing in ports {
            let journal = self.journal(standing.port);
            before_store();
            journal.receive.store(standing.fill_producer, Ordering::Release);
            before_store();
            journal.transmit.store(standing.transmit_producer, Ordering::Release);
        }
        (0u32..).zip(&after).filter(|(_, byte)| **byte == FrameOwner::Held.byte()).map(|(frame, _)| frame).collect()
    }
}

/// The rule of recovery, over plain values: who owns each frame, given the bytes and what stands in the rings.
fn settle(owners: &mut [u8], ports: &[Standing]) {
    let place = |owners: &mut [u8], address: u64, only_pending: bool, owner: FrameOwner| {
        if let Some(byte) = owners.get_mut((address / CHUNK) as usize)
            && (!only_pending || *byte == FrameOwner::Pending.byte())
        {
            *byte = owner.byte();
        }
    };
    for standing in ports {
        for &address in &standing.fill_burst {
            place(owners, address, true, FrameOwner::Receiving(standing.port));
        }
        for &address in &standing.transmit_burst {
            place(owners, address, true, FrameOwner::Transmitting(standing.port));
        }
        for &address in &standing.received {
            place(owners, address, false, FrameOwner::Receiving(standing.port));
        }
        for &address in &standing.completed {
            place(owners, address, false, FrameOwner::Transmitting(standing.port));
        }
    }
    let known = |port: u8| ports.iter().any(|standing| standing.port == port);
    for byte in owners {
        match FrameOwner::of(*byte) {
            FrameOwner::Pending => *byte = FrameOwner::Held.byte(),
            // A ring that isn't there any more holds nothing.
            FrameOwner::Receiving(port) | FrameOwner::Transmitting(port) if !known(port) => {
                *byte = FrameOwner::Held.byte()
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(owners: &[FrameOwner]) -> Vec<u8> {
        owners.iter().map(|owner| owner.byte()).collect()
    }

    #[test]
    fn pending_frame_is_the_kernels_only_if_published() {
        let mut owners = bytes(&[FrameOwner::Pending, FrameOwner::Pending, FrameOwner::Pending]);
        settle(
            &mut owners,
            &[Standing { port: 3, fill_burst: vec![0], transmit_burst: vec![CHUNK + 256], ..Standing::default() }],
        );
        assert_eq!(owners, bytes(&[FrameOwner::Receiving(3), FrameOwner::Transmitting(3), FrameOwner::Held]));
    }

    #[test]
    fn frame_of_an_old_burst_stays_held() {
        let mut owners = bytes(&[FrameOwner::Held]);
        settle(&mut owners, &[Standing { transmit_burst: vec![0], ..Standing::default() }]);
        assert_eq!(owners, bytes(&[FrameOwner::Held]));
    }

    #[test]
    fn popped_but_unreleased_frame_goes_back() {
        let mut owners = bytes(&[FrameOwner::Held, FrameOwner::Held]);
        settle(
            &mut owners,
            &[Standing { port: 1, received: vec![256], completed: vec![CHUNK], ..Standing::default() }],
        );
        assert_eq!(owners, bytes(&[FrameOwner::Receiving(1), FrameOwner::Transmitting(1)]));
    }

    #[test]
    fn frames_of_a_vanished_port_come_home_and_wild_addresses_are_ignored() {
        let mut owners = bytes(&[FrameOwner::Receiving(7), FrameOwner::Transmitting(7)]);
        settle(&mut owners, &[Standing { received: vec![u64::MAX], ..Standing::default() }]);
        assert_eq!(owners, bytes(&[FrameOwner::Held, FrameOwner::Held]));
    }
}
