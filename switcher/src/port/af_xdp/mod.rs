//! AF_XDP: the kernel puts packets straight into the frame pool (patent Figs 10, 12, 13).
//!
//! The keeper opens and binds the sockets and keeps a copy of each, so that a queue outlives its switcher; the
//! switcher maps the rings ([`XdpPort::map`]) and needs no privilege from then on.

#[cfg(test)]
pub(in crate::port) mod crash_model;
#[cfg(test)]
mod frames_tests;
mod losses;
mod queue;
mod ring;
mod socket;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use shunt_protocol::limits::RING_SLOTS;

use super::kick::{self, Kick};
use super::{Batch, Frame, Ledger, Losses, Pool, Port, Standing};
use queue::{Queue, Rings};
use ring::Ring;
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::regions::SocketReading;

/// Why a socket's rings can't be mapped.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// Ring size.
    #[error("ring of {0} slots; limits.ring must be a power of two from {min} to {max}", min = RING_SLOTS.start(), max = RING_SLOTS.end())]
    Slots(u32),
    /// Port number.
    #[error("port number {0} has no journal in the switcher's region; keeper and switcher are of different versions")]
    Port(u8),
    /// No AF_XDP socket, or not set up.
    #[error("the socket from the keeper doesn't tell its ring offsets: {0}; is it an AF_XDP socket?")]
    Socket(std::io::Error),
    /// mmap.
    #[error("mapping a ring of {slots} slots: {error}; a bound socket's rings can be mapped from Linux 6.4 on")]
    Map {
        /// Slots of the ring.
        slots: u32,
        /// The system's answer.
        error: std::io::Error,
    },
    /// Nonsense from the kernel.
    #[error("the kernel's ring offsets are outside the ring")]
    Offsets,
}

/// An AF_XDP queue, mapped.
pub struct XdpPort {
    socket: OwnedFd,
    queue: Queue,
    kick: Kick,
    /// Nobody else fetches the queue's packets from the device.
    busy_polls: bool,
    reading: &'static SocketReading<Writer>,
    /// The socket's cookie and counts that were told last, until they are counted.
    told: Option<(u64, Losses)>,
}

impl XdpPort {
    /// Maps a bound socket's rings and goes on where they stand. `readings` are the switcher's, by port.
    pub fn map(
        socket: OwnedFd,
        port: u8,
        slots: u32,
        ledger: &Ledger,
        readings: &'static [SocketReading<Writer>],
    ) -> Result<XdpPort, MapError> {
        if !slots.is_power_of_two() || !RING_SLOTS.contains(&slots) {
            return Err(MapError::Slots(slots));
        }
        let reading = readings.get(usize::from(port)).filter(|_| ledger.has_port(port)).ok_or(MapError::Port(port))?;
        let offsets = socket::ring_offsets(socket.as_fd()).map_err(MapError::Socket)?;
        let fd = socket.as_fd();
        let rings = Rings {
            fill: Ring::map(fd, libc::XDP_UMEM_PGOFF_FILL_RING, &offsets.fr, slots)?,
            completion: Ring::map(fd, libc::XDP_UMEM_PGOFF_COMPLETION_RING, &offsets.cr, slots)?,
            receive: Ring::map(fd, libc::XDP_PGOFF_RX_RING as u64, &offsets.rx, slots)?,
            transmit: Ring::map(fd, libc::XDP_PGOFF_TX_RING as u64, &offsets.tx, slots)?,
        };
        let queue = Queue::resume(port, rings);
        Ok(XdpPort { socket, queue, kick: Kick::default(), busy_polls: false, reading, told: None })
    }

    /// For a socket that [`prefer_busy_poll`] was set for.
    pub fn busy_polling(self) -> XdpPort {
        XdpPort { busy_polls: true, ..self }
    }
}

impl Port for XdpPort {
    #[inline]
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch) {
        if self.busy_polls && self.queue.has_received_nothing() && !self.kick.is_paused() {
            self.kick.fetch(self.socket.as_fd());
        }
        self.queue.receive(pool, batch);
    }

    #[inline]
    fn send(&mut self, pool: &mut Pool, frame: Frame) -> Result<(), Frame> {
        self.queue.send(pool, frame)?;
        if self.queue.unpublished() >= kick::BURST && !self.kick.is_paused() {
            self.queue.publish(pool);
            if self.queue.wants_kick() {
                self.kick.kick(self.socket.as_fd());
            }
        }
        Ok(())
    }

    fn flush(&mut self, pool: &mut Pool) {
        self.queue.publish(pool);
        if self.kick.next_turn() && self.queue.wants_kick() {
            self.kick.kick(self.socket.as_fd());
        }
        self.queue.reclaim(pool);
        self.queue.refill(pool);
        if self.queue.wants_fill_wakeup() && !self.kick.is_paused() {
            socket::wake_fill(self.socket.as_fd());
        }
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn kernel_has_it(&self) -> bool {
        false
    }

    fn losses(&mut self) -> Losses {
        // A socket that tells neither is asked again in a second.
        let socket = self.socket.as_fd();
        let kernel = socket::cookie(socket).and_then(|cookie| Ok((cookie, socket::statistics(socket)?)));
        self.told = kernel.ok();
        let since = |(cookie, now): &(u64, Losses)| losses::since(self.reading, *cookie, now);
        let lost = self.told.as_ref().map(since).unwrap_or_default();
        let invalid = lost.invalid + self.queue.take_invalid();
        Losses { invalid, send_errors: self.kick.take_errors(), ..lost }
    }

    fn commit_losses(&mut self) {
        if let Some((cookie, now)) = self.told.take() {
            losses::commit(self.reading, cookie, &now);
        }
    }

    fn standing(&self, ledger: &Ledger) -> Option<Standing> {
        Some(self.queue.standing(ledger))
    }
}
