//! The frame pool: the UMEM that all ports of one switcher share (patent Fig. 11 step 302, "buffers mapped to all of the
//! network interfaces"), its free list, and access to the bytes of a frame in hand.
//!
//! Owner: one switcher. The free list is private to the process; who owns each frame is in the [`Ledger`].
#![allow(unsafe_code)]

use memmap2::MmapRaw;
use shunt_packet::Buffer;
use shunt_shmlayout::frames::{CHUNK, HEADROOM};

use super::{Frame, Ledger, Standing};
use shunt_shmlayout::frames::FrameOwner;

/// Why a pool can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// Memory and owners disagree.
    #[error(
        "frame pool has {bytes} bytes, but {frames} frames of {CHUNK} bytes are accounted for; remove the regions and restart the keeper"
    )]
    Size {
        /// Bytes of the mapping.
        bytes: usize,
        /// Owner bytes.
        frames: usize,
    },
}

/// The frames of one switcher.
#[derive(Debug)]
pub struct Pool {
    memory: MmapRaw,
    ledger: Ledger,
    free: Vec<u32>,
}

impl Pool {
    /// Takes over the pool: settles every frame's owner from what stands in the ports' rings (nothing, at a first start)
    /// and puts the held ones into the free list.
    pub fn recover(memory: MmapRaw, ledger: Ledger, ports: &[Standing]) -> Result<Pool, PoolError> {
        if memory.len() as u64 != ledger.frames() as u64 * CHUNK {
            return Err(PoolError::Size { bytes: memory.len(), frames: ledger.frames() });
        }
        let mut free = ledger.recover(ports);
        // Taken from the end: low addresses first, so that a lightly loaded switcher stays in few cache lines and pages.
        free.reverse();
        free.reserve(ledger.frames() - free.len());
        Ok(Pool { memory, ledger, free })
    }

    /// An empty frame from the free list.
    #[inline]
    pub fn take(&mut self) -> Option<Frame> {
        self.free.pop().map(|number| Frame { address: u64::from(number) * CHUNK + HEADROOM, length: 0 })
    }

    /// Gives a frame back.
    #[inline]
    pub fn give(&mut self, frame: Frame) {
        debug_assert_eq!(self.ledger.owner(frame.address), Some(FrameOwner::Held));
        if frame.address < self.memory.len() as u64 {
            self.free.push((frame.address / CHUNK) as u32);
        }
    }

    /// Frames in the free list.
    #[inline]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Whether `length` bytes at `address` are inside one frame of this pool.
    #[inline]
    pub fn contains(&self, address: u64, length: u32) -> bool {
        address < self.memory.len() as u64 && address % CHUNK + u64::from(length) <= CHUNK
    }

    /// The bytes of a frame in hand; none if it isn't of this pool.
    #[inline]
    pub fn bytes(&self, frame: &Frame) -> &[u8] {
        if !self.contains(frame.address, frame.length) {
            return &[];
        }
        // SAFETY: inside the mapping (checked), which lives as long as self. Whoever has a `Frame` holds it by the
        // ownership protocol: the kernel doesn't write it, and this is the only process that uses held frames.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(frame.address as usize), frame.length as usize) }
    }

    /// Lets `with` change a frame in hand, in its place and with the head room before it. The frame comes back, starting where
    /// the buffer does and ending where it did.
    #[inline]
    pub fn change<R>(&mut self, frame: Frame, with: impl FnOnce(&mut Buffer<'_>) -> R) -> (Frame, R) {
        let start = frame.address % CHUNK;
        let chunk = Frame { address: frame.address - start, length: CHUNK as u32 };
        let mut buffer = Buffer::new(self.bytes_mut(&chunk), start as usize);
        let result = with(&mut buffer);
        let (start, end) = (buffer.head_room() as u64, start + u64::from(frame.length));
        (Frame { address: chunk.address + start, length: end.saturating_sub(start) as u32 }, result)
    }

    /// The bytes of a frame in hand, to be changed; none if it isn't of this pool.
    #[inline]
    fn bytes_mut(&mut self, frame: &Frame) -> &mut [u8] {
        if !self.contains(frame.address, frame.length) {
            return &mut [];
        }
        // SAFETY: as in `bytes`; `&mut self` makes it the only reference made here.
        unsafe {
            std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().add(frame.address as usize), frame.length as usize)
        }
    }

    /// All bytes from the frame's first one to the end of its place, for a frame that is going to grow.
    #[inline]
    pub(super) fn room_mut(&mut self, frame: &Frame) -> &mut [u8] {
        let room = (CHUNK - frame.address % CHUNK) as u32;
        self.bytes_mut(&Frame { address: frame.address, length: room })
    }

    /// A new frame with these bytes; `None` if there is no free frame or it doesn't fit one.
    #[inline]
    pub fn copy_in(&mut self, bytes: &[u8]) -> Option<Frame> {
        if bytes.len() as u64 > CHUNK - HEADROOM {
            return None;
        }
        let mut frame = self.take()?;
        frame.length = bytes.len() as u32;
        self.bytes_mut(&frame).copy_from_slice(bytes);
        Some(frame)
    }

    /// Who owns which frame.
    #[inline]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use shunt_shmlayout::word::{Word8, Word32};

    pub fn ledger(frames: usize, ports: usize) -> Ledger {
        let owners: Vec<Word8<_>> = (0..frames).map(|_| Word8::new(0)).collect();
        let journal: Vec<Word32<_>> = (0..2 * ports).map(|_| Word32::new(0)).collect();
        Ledger::new(Vec::leak(owners), Vec::leak(journal))
    }

    pub fn memory(frames: usize) -> MmapRaw {
        memmap2::MmapMut::map_anon(frames * CHUNK as usize).expect("anonymous memory").into()
    }

    pub fn pool(frames: usize) -> Pool {
        Pool::recover(memory(frames), ledger(frames, 4), &[]).expect("sizes agree")
    }

    #[test]
    fn every_frame_is_given_once() {
        let mut pool = pool(8);
        let mut addresses: Vec<u64> = std::iter::from_fn(|| pool.take()).map(|frame| frame.address).collect();
        addresses.dedup();
        assert_eq!(addresses, (0..8).map(|n| n * CHUNK + HEADROOM).collect::<Vec<_>>());
    }

    #[test]
    fn frames_outside_the_pool_have_no_bytes() {
        let mut pool = pool(2);
        assert!(pool.bytes(&Frame { address: 2 * CHUNK, length: 1 }).is_empty());
        assert!(pool.bytes(&Frame { address: CHUNK - 1, length: 2 }).is_empty(), "crosses into the next frame");
        assert!(pool.bytes_mut(&Frame { address: u64::MAX, length: 64 }).is_empty());
        assert!(pool.bytes(&Frame { address: 0, length: u32::MAX }).is_empty());
        assert!(pool.copy_in(&[0; 2048]).is_none());
    }

    #[test]
    fn bytes_are_kept_and_the_rest_of_the_place_can_be_used() {
        let mut pool = pool(2);
        let frame = pool.copy_in(b"frame").expect("a free frame");
        assert_eq!(pool.bytes(&frame), b"frame");
        assert_eq!(pool.room_mut(&frame).len() as u64, CHUNK - HEADROOM);
    }

    #[test]
    fn a_header_is_pushed_into_the_head_room_and_no_further() {
        let mut pool = pool(2);
        let frame = pool.copy_in(b"frame").expect("a free frame");
        let before = frame.address;
        let (frame, room) = pool.change(frame, |buffer| {
            buffer.push(7).expect("head room").copy_from_slice(b"header ");
            buffer.head_room()
        });
        assert_eq!((pool.bytes(&frame), room as u64, frame.address), (&b"header frame"[..], HEADROOM - 7, before - 7));
        let (frame, is_pushed) = pool.change(frame, |buffer| buffer.push(room + 1).is_some());
        assert!(!is_pushed, "that would be the frame before");
        let (frame, ()) = pool.change(frame, |buffer| assert_eq!(buffer.pull(9).expect("bytes"), b"header fr"));
        assert_eq!(pool.bytes(&frame), b"ame");
        pool.give(frame);
        let again = pool.take().expect("the frame that was given back");
        assert_eq!(again.address, before, "a frame from the free list starts behind its head room");
    }

    #[test]
    fn a_change_of_a_frame_outside_the_pool_reaches_nothing() {
        let mut pool = pool(2);
        for address in [2 * CHUNK, u64::MAX] {
            let (_, bytes) = pool.change(Frame { address, length: 60 }, |buffer| (buffer.len(), buffer.head_room()));
            assert_eq!(bytes, (0, 0));
        }
    }

    #[test]
    fn wrong_size_is_refused() {
        let error = Pool::recover(memory(2), ledger(3, 1), &[]).expect_err("sizes differ").to_string();
        assert!(error.contains("4096 bytes, but 3 frames"), "{error}");
    }
}
