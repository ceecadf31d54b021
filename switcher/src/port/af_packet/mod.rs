//! AF_PACKET with mapped rings: where AF_XDP can't be had, and for sending on an interface of which the switcher has no
//! queue. Packets are copied between the socket's rings and the frame pool, so that the kernel never owns a frame.
//!
//! The kernel keeps its own position in each ring and doesn't report it; a successor must continue at exactly that slot. So
//! the port's [`Journal`] holds the next slot, and whatever a kill between two stores leaves is put right by looking at the
//! slots ([`resume_receive`], [`resume_transmit`]).

mod ring;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use memmap2::MmapOptions;
use shunt_protocol::limits::RING_SLOTS;

use shunt_protocol::port::{PACKET_SLOT as SLOT, Role};
use shunt_protocol::socket as system;

use super::kick::{self, Kick};
use super::{Batch, Frame, Journal, Ledger, Losses, Pool, Port};
use ring::{Received, Slots};

/// Bytes of the two Ethernet addresses, after which a VLAN tag stands.
const ADDRESSES: usize = 12;

/// Why a socket's rings can't be mapped.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// Ring size.
    #[error("ring of {0} slots; limits.ring must be a power of two from {min} to {max}", min = RING_SLOTS.start(), max = RING_SLOTS.end())]
    Slots(u32),
    /// Port number.
    #[error("port number {0} has no journal in the switcher's region; keeper and switcher are of different versions")]
    Port(u8),
    /// mmap.
    #[error("mapping the AF_PACKET rings of {slots} slots: {error}; was the socket opened with as many?")]
    Map {
        /// Slots of each ring.
        slots: u32,
        /// The system's answer.
        error: std::io::Error,
    },
}

/// An AF_PACKET socket, mapped.
pub struct PacketPort {
    socket: OwnedFd,
    receive: Option<Slots>,
    transmit: Slots,
    receive_next: u32,
    transmit_next: u32,
    journal: Journal,
    /// Frames queued since the last kick.
    queued: u32,
    kick: Kick,
    losses: Losses,
}

impl PacketPort {
    /// Maps a bound socket's rings and goes on where they stand.
    pub fn map(socket: OwnedFd, port: u8, slots: u32, role: Role, ledger: &Ledger) -> Result<PacketPort, MapError> {
        if !slots.is_power_of_two() || !RING_SLOTS.contains(&slots) {
            return Err(MapError::Slots(slots));
        }
        if !ledger.has_port(port) {
            return Err(MapError::Port(port));
        }
        let ring_length = slots as usize * SLOT;
        let rings = if role == Role::Both { 2 } else { 1 };
        let map_error = |error| MapError::Map { slots, error };
        let mapping =
            MmapOptions::new().len(rings * ring_length).populate().map_raw(socket.as_raw_fd()).map_err(map_error)?;
        let mapping = Arc::new(mapping);
        let ring = |number| Slots::new(Arc::clone(&mapping), number * ring_length, slots).ok_or(MapError::Slots(slots));
        let receive = if role == Role::Both { Some(ring(0)?) } else { None };
        let transmit = ring(rings - 1)?;
        let journal = ledger.journal(port);
        Ok(PacketPort {
            receive_next: receive.as_ref().map_or(0, |slots| resume_receive(slots, &journal)),
            transmit_next: resume_transmit(&transmit, &journal),
            socket,
            receive,
            transmit,
            journal,
            // The predecessor may not have come to its last kick.
            queued: 1,
            kick: Kick::default(),
            losses: Losses::default(),
        })
    }

    fn kick(&mut self) {
        self.kick.kick(self.socket.as_fd());
        // The kernel sends in order: if it took the last one, it took all.
        let last = self.transmit.index(self.transmit_next.wrapping_sub(1));
        self.queued = u32::from(self.transmit.is_requested(last));
    }
}

/// Returns a slot whose packet was taken to the kernel; the next slot. The mark comes before the journal, so that the successor
/// of a switcher killed in between sees in the slot how far it came.
fn release(slots: &Slots, index: u32, journal: &Journal) -> u32 {
    slots.mark_taken(index);
    move_on(slots, index, journal)
}

fn move_on(slots: &Slots, index: u32, journal: &Journal) -> u32 {
    let next = slots.after(index);
    journal.receive.store(next, Ordering::Release);
    slots.release(index);
    next
}

/// Where the kernel is in the receive ring. Completes what a predecessor that was killed in [`release`] had begun.
fn resume_receive(slots: &Slots, journal: &Journal) -> u32 {
    let next = slots.index(journal.receive.load(Ordering::Acquire));
    if slots.is_taken(next) {
        return move_on(slots, next, journal);
    }
    let last = slots.index(next.wrapping_sub(1));
    if slots.is_taken(last) {
        slots.release(last);
    }
    next
}

/// Where the kernel is in the transmit ring. `send` always leaves the next slot free, so if it isn't, it was filled but
/// not written down.
fn resume_transmit(slots: &Slots, journal: &Journal) -> u32 {
    let next = slots.index(journal.transmit.load(Ordering::Acquire));
    if slots.is_available(next) { next } else { slots.after(next) }
}

/// Copies a packet into a free frame, with the VLAN tag that the kernel had put aside; `None` if it doesn't fit.
fn copy_in(pool: &mut Pool, packet: &Received<'_>) -> Option<Frame> {
    let tag = match packet.vlan {
        None => return pool.copy_in(packet.bytes),
        Some(vlan) => (u32::from(vlan.protocol) << 16 | u32::from(vlan.control)).to_be_bytes(),
    };
    let (addresses, rest) = packet.bytes.split_at_checked(ADDRESSES)?;
    let length = packet.bytes.len() + tag.len();
    let mut frame = pool.take()?;
    match pool.room_mut(&frame).get_mut(..length) {
        Some(room) => {
            room[..ADDRESSES].copy_from_slice(addresses);
            room[ADDRESSES..ADDRESSES + tag.len()].copy_from_slice(&tag);
            room[ADDRESSES + tag.len()..].copy_from_slice(rest);
            frame.length = length as u32;
            Some(frame)
        }
        None => {
            pool.give(frame);
            None
        }
    }
}

impl Port for PacketPort {
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch) {
        let Some(slots) = &self.receive else { return };
        // Without a free frame packets wait in the ring.
        while batch.room() > 0 && pool.free() > 0 && slots.is_received(self.receive_next) {
            let packet = slots.received(self.receive_next);
            let frame = if packet.is_cut { None } else { copy_in(pool, &packet) };
            self.receive_next = release(slots, self.receive_next, &self.journal);
            match frame.map(|frame| batch.push(frame)) {
                Some(Ok(())) => {}
                Some(Err(frame)) => pool.give(frame),
                None => self.losses.invalid += 1,
            }
        }
    }

    fn send(&mut self, pool: &mut Pool, frame: Frame) -> Result<(), Frame> {
        let after = self.transmit.after(self.transmit_next);
        if !(self.transmit.is_available(self.transmit_next) && self.transmit.is_available(after)) {
            return Err(frame);
        }
        if self.transmit.write(self.transmit_next, pool.bytes(&frame)) {
            self.transmit_next = after;
            self.journal.transmit.store(after, Ordering::Release);
            self.queued += 1;
        } else {
            self.losses.invalid += 1;
        }
        pool.give(frame);
        if self.queued >= kick::BURST && !self.kick.is_paused() {
            self.kick();
        }
        Ok(())
    }

    fn flush(&mut self, _pool: &mut Pool) {
        if self.kick.next_turn() && self.queued > 0 {
            self.kick();
        }
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn kernel_has_it(&self) -> bool {
        true
    }

    fn losses(&mut self) -> Losses {
        // Reading resets the kernel's counts.
        let kernel =
            system::option::<libc::tpacket_stats>(self.socket.as_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS);
        if let Ok((kernel, _)) = kernel {
            self.losses.ring_full += u64::from(kernel.tp_drops);
        }
        Losses { send_errors: self.kick.take_errors(), ..std::mem::take(&mut self.losses) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::tests as memory;
    use super::*;
    use memmap2::MmapMut;

    const COUNT: u32 = 4;

    /// The kernel's side of the ring: it fills slot after slot, and drops where one isn't free.
    struct Kernel {
        slots: Slots,
        next: u32,
        filled: u32,
    }

    impl Kernel {
        fn fill(&mut self, packets: u32) {
            for _ in 0..packets {
                let status = self.slots.status(self.next);
                if status.load(Ordering::Acquire) == libc::TP_STATUS_KERNEL {
                    status.store(libc::TP_STATUS_USER, Ordering::Release);
                    self.next = self.slots.after(self.next);
                    self.filled += 1;
                }
            }
        }
    }

    /// Receives all there is; how many.
    fn drain(slots: &Slots, next: &mut u32, journal: &Journal) -> u32 {
        let mut received = 0;
        while slots.is_received(*next) {
            *next = release(slots, *next, journal);
            received += 1;
        }
        received
    }

    #[test]
    fn whatever_a_kill_leaves_a_successor_stays_beside_the_kernel() {
        for (laps, queued, killed_after, meanwhile) in (0..COUNT).flat_map(|laps| {
            (1..=COUNT).flat_map(move |queued| {
                (0..4).flat_map(move |stores| (0..=COUNT).map(move |meanwhile| (laps, queued, stores, meanwhile)))
            })
        }) {
            let mapping = Arc::new(memmap2::MmapRaw::from(MmapMut::map_anon(COUNT as usize * SLOT).unwrap()));
            let slots = || Slots::new(Arc::clone(&mapping), 0, COUNT).unwrap();
            let journal = memory::ledger(1, 1).journal(0);
            let (mut kernel, ours) = (Kernel { slots: slots(), next: 0, filled: 0 }, slots());
            let mut next = 0;
            for _ in 0..laps {
                kernel.fill(1);
                drain(&ours, &mut next, &journal);
            }
            kernel.fill(queued);
            let (index, after) = (next, ours.after(next));
            // The stores of release(), in order.
            if killed_after > 0 {
                ours.mark_taken(index);
            }
            if killed_after > 1 {
                journal.receive.store(after, Ordering::Release);
            }
            if killed_after > 2 {
                ours.release(index);
            }
            kernel.fill(meanwhile);
            let mut next = resume_receive(&ours, &journal);
            let received = drain(&ours, &mut next, &journal);
            let case = (laps, queued, killed_after, meanwhile);
            assert_eq!(next, kernel.next, "{case:?}");
            assert_eq!(received, kernel.filled - laps - u32::from(killed_after > 0), "{case:?}: each packet once");
            kernel.fill(1);
            assert_eq!(drain(&ours, &mut next, &journal), 1, "{case:?}: the next packet is received at once");
        }
    }
}
