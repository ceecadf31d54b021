//! AF_PACKET with mapped rings: where AF_XDP can't be had, and for sending on an interface of which the switcher has no
//! queue. Packets are copied between the socket's rings and the frame pool, so that the kernel never owns a frame.
//!
//! The kernel keeps its own place in each ring and doesn't tell it; a successor must go on at exactly that slot. So the
//! next slot stands in the port's [`Journal`] after every single slot, and the one slot by which it may be late after a
//! kill is found by looking at the slots ([`resume_receive`], [`resume_transmit`]).

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

/// Where the kernel is in the receive ring. The journal is one slot late if the predecessor was killed between giving a
/// slot back and writing the next one down: then that slot is empty and the one after it may not be.
fn resume_receive(slots: &Slots, journal: &Journal) -> u32 {
    let next = slots.index(journal.receive.load(Ordering::Acquire));
    if !slots.is_received(next) && slots.is_received(slots.after(next)) { slots.after(next) } else { next }
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
            slots.release(self.receive_next);
            self.receive_next = slots.after(self.receive_next);
            self.journal.receive.store(self.receive_next, Ordering::Release);
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
