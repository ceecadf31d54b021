//! Network interfaces reached from user level (patent Figs 10, 12 and 13): one trait, several kinds of port behind it.
//!
//! A port is one interface queue. Its frames stand in the switcher's frame pool ([`Pool`]); a frame received on one port
//! may be sent on another of the same switcher without being copied. One thread, the switcher's engine, owns all of it.

pub mod af_packet;
pub mod af_xdp;
mod kick;
pub mod memory;
mod ownership;
mod pool;
pub mod store;

use ownership::Journal;
pub use ownership::{Ledger, Standing};
pub use pool::{Pool, PoolError};
pub use shunt_protocol::port::BATCH;
use std::os::fd::BorrowedFd;

/// A frame in hand: where its bytes are in the frame pool.
///
/// It is neither `Copy` nor `Clone`: whoever has it gives it to a port or back to the pool, once. Its bytes are reached by
/// the pool, with the frame in hand. So a frame that was handed over can't be touched any more:
///
/// ```compile_fail,E0382
/// use shunt_switcher::port::{Frame, Pool, Port};
///
/// fn send_and_look(port: &mut dyn Port, pool: &mut Pool, frame: Frame) -> u8 {
///     let _ = port.send(pool, frame);
///     pool.bytes(&frame)[0]
/// }
/// ```
///
/// nor can its bytes be kept beyond the change that they were opened for:
///
/// ```compile_fail
/// use shunt_switcher::port::{Frame, Pool, Port};
///
/// fn keep(port: &mut dyn Port, pool: &mut Pool, frame: Frame) {
///     let (frame, bytes) = pool.change(frame, |buffer| &mut buffer[..]);
///     let _ = port.send(pool, frame);
///     bytes[0] = 1;
/// }
/// ```
///
/// nor can it be made up from what somebody remembers of it:
///
/// ```compile_fail,E0451
/// use shunt_switcher::port::Frame;
///
/// let again = Frame { address: 256, length: 60 };
/// ```
///
/// ```compile_fail,E0616
/// fn remember(frame: &shunt_switcher::port::Frame) -> u64 {
///     frame.address
/// }
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// Offset in the pool of the first byte: anywhere in the frame's chunk, as headers are pushed and pulled.
    address: u64,
    /// Bytes from there.
    length: u32,
}

impl Frame {
    /// Bytes of the packet.
    #[inline]
    pub fn length(&self) -> u32 {
        self.length
    }

    /// The frame with a packet of this length, from the same start on.
    #[inline]
    #[must_use]
    pub fn with_length(self, length: u32) -> Self {
        Self { length, ..self }
    }

    /// The frame of this number, as no pool gave it.
    #[cfg(test)]
    pub(crate) const fn for_test(number: u64) -> Self {
        Self { address: number * shunt_shmlayout::frames::CHUNK, length: 60 }
    }
}

/// Up to [`BATCH`] frames, in order of arrival, without allocation.
#[derive(Debug)]
pub struct Batch {
    frames: [Frame; BATCH],
    length: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self { frames: [const { Frame { address: 0, length: 0 } }; BATCH], length: 0 }
    }
}

impl Batch {
    /// Adds a frame; gives it back if the batch is full.
    #[inline]
    pub fn push(&mut self, frame: Frame) -> Result<(), Frame> {
        match self.frames.get_mut(self.length) {
            Some(place) => {
                *place = frame;
                self.length += 1;
                Ok(())
            }
            None => Err(frame),
        }
    }

    /// The frames, for a look ahead.
    #[inline]
    pub fn frames(&self) -> &[Frame] {
        &self.frames[..self.length]
    }

    /// Empties the batch, giving each frame to the caller.
    #[inline]
    pub fn drain(&mut self) -> impl Iterator<Item = Frame> + '_ {
        let length = std::mem::take(&mut self.length);
        self.frames[..length].iter_mut().map(|frame| Frame { address: frame.address, length: frame.length })
    }

    /// How many more frames fit.
    #[inline]
    pub fn room(&self) -> usize {
        BATCH - self.length
    }

    /// How many frames are in it.
    #[inline]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// What a port and the kernel behind it lost.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Losses {
    /// Received packets lost because the receive ring was full.
    pub ring_full: u64,
    /// Received packets lost because the kernel had no free frame.
    pub no_frame: u64,
    /// Received packets that don't fit a frame, and descriptors that the kernel or this side refused.
    pub invalid: u64,
    /// Kicks that failed, mostly because the interface is down or gone.
    pub send_errors: u64,
}

/// One interface queue that a switcher polls or sends on.
pub trait Port {
    /// Takes received frames into `batch` while there is room; they become the caller's.
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch);

    /// Queues one frame for transmission, from where it starts; gives it back if the ring is full.
    fn send(&mut self, pool: &mut Pool, frame: Frame) -> Result<(), Frame>;

    /// Publishes what was queued, kicks the kernel where it needs that, takes sent frames back and offers free ones for
    /// reception. Never blocks.
    fn flush(&mut self, pool: &mut Pool);

    /// What becomes readable when a packet has come; `None` where nothing does.
    fn readable(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Whether the kernel's own stack also sees each received packet (AF_PACKET), so that what isn't Shunt's needs no answer.
    fn kernel_has_it(&self) -> bool;

    /// What was lost since the losses that were last counted, by this process or its predecessor. A system call, for once a
    /// second.
    fn losses(&mut self) -> Losses;

    /// The losses last told are counted: nobody is to be told them again. A port that outlives its switcher tells a successor
    /// those that weren't.
    fn commit_losses(&mut self) {}

    /// Which frames stand in rings that outlive the switcher; `None` where frames are copied in and out.
    fn standing(&self, _ledger: &Ledger) -> Option<Standing> {
        None
    }
}
