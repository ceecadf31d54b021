//! A frame that can be changed: its bytes, and the head room before them.
//!
//! The frame starts somewhere inside its place in the frame pool. [`Buffer::push`] moves the start towards the place's
//! beginning and [`Buffer::pull`] away from it; nothing else of the room before a frame can be reached. Offsets of a
//! [`crate::Flow`] count from the start that the frame had when it was parsed.

use core::ops::{Deref, DerefMut};

/// One frame, from its start to the end of its place in the pool, which may lie beyond the packet's end.
#[derive(Debug)]
pub struct Buffer<'a> {
    place: &'a mut [u8],
    /// At most the length of the place.
    start: usize,
}

impl<'a> Buffer<'a> {
    /// A frame that starts at `start` of its place.
    #[inline]
    pub fn new(place: &'a mut [u8], start: usize) -> Self {
        Self { start: start.min(place.len()), place }
    }

    /// Head room in bytes.
    #[inline]
    pub fn head_room(&self) -> usize {
        self.start
    }

    /// Extends the frame by a header of `length` bytes and returns them; they hold whatever was there. `None`, and no change,
    /// without room.
    #[inline]
    pub fn push(&mut self, length: usize) -> Option<&mut [u8]> {
        let start = self.start.checked_sub(length)?;
        let header = self.place.get_mut(start..self.start)?;
        self.start = start;
        Some(header)
    }

    /// Removes `length` bytes from the frame's start and returns them. `None`, and no change, if the frame is shorter.
    #[inline]
    pub fn pull(&mut self, length: usize) -> Option<&mut [u8]> {
        let end = self.start.checked_add(length)?;
        let header = self.place.get_mut(self.start..end)?;
        self.start = end;
        Some(header)
    }
}

impl<'a> From<&'a mut [u8]> for Buffer<'a> {
    /// A frame without head room.
    #[inline]
    fn from(frame: &'a mut [u8]) -> Self {
        Self::new(frame, 0)
    }
}

impl Deref for Buffer<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.place.get(self.start..).unwrap_or_default()
    }
}

impl DerefMut for Buffer<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.place.get_mut(self.start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_pushed_and_pulled_inside_the_place_only() {
        let mut place = *b"....frame";
        let mut buffer = Buffer::new(&mut place, 4);
        assert_eq!((&*buffer, buffer.head_room()), (&b"frame"[..], 4));
        buffer.push(3).expect("room").copy_from_slice(b"ip:");
        assert_eq!((&*buffer, buffer.head_room()), (&b"ip:frame"[..], 1));
        assert_eq!(buffer.push(2), None);
        assert_eq!(buffer.push(usize::MAX), None);
        assert_eq!(buffer.pull(9), None);
        assert_eq!(buffer.pull(usize::MAX), None);
        assert_eq!(&*buffer, b"ip:frame", "what was refused changed nothing");
        assert_eq!(buffer.pull(3).expect("a header"), b"ip:");
        assert_eq!(&*buffer, b"frame");
        assert_eq!(buffer.pull(5).expect("all of it"), b"frame");
        assert!(buffer.is_empty());
        assert_eq!(place, *b".ip:frame");
    }

    #[test]
    fn a_start_outside_the_place_is_an_empty_frame() {
        let mut place = [0; 4];
        let mut buffer = Buffer::new(&mut place, 9);
        assert!(buffer.is_empty());
        buffer[..].fill(1);
        assert_eq!(buffer.push(4).map(|header| header.len()), Some(4));
    }
}
