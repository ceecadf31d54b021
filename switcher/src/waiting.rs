//! Packets of the box's own programs whose next hop isn't known yet. A kernel keeps some while it asks (RFC 1122 2.3.2.2);
//! Shunt, which made the kernel hand them over, does so in its place, or each first contact would cost a retransmission.
//!
//! Owned by the engine. Frames here are in hand: after a crash they are free again.

use std::collections::VecDeque;

use crate::port::Frame;
use shunt_shmlayout::address::Address;

/// Packets of all destinations.
const PLACES: usize = 64;
const _: () = assert!((crate::port::BATCH + PLACES) as u64 <= shunt_shmlayout::regions::FRAMES_IN_HAND);
/// Packets of one destination, so that a dead one doesn't take the others' places.
const PLACES_EACH: usize = 4;
/// Enough for control to take the wish, the kernel to ask twice, and the neighbour to answer.
const PATIENCE_MS: u64 = 1500;
/// From one look to the next.
const LOOK_MS: u64 = 4;

/// A packet that waits.
#[derive(Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its frame, as it was received.
    pub frame: Frame,
    /// Where it goes.
    pub to: Address,
    until_ms: u64,
}

impl Waiting {
    /// Whether it has waited long enough.
    pub fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.until_ms
    }
}

/// The packets that wait, in order of arrival.
#[derive(Debug)]
pub struct WaitingRoom {
    places: VecDeque<Waiting>,
    looked_ms: u64,
}

impl Default for WaitingRoom {
    fn default() -> Self {
        Self { places: VecDeque::with_capacity(PLACES), looked_ms: 0 }
    }
}

impl WaitingRoom {
    /// Takes a frame in; gives it back if there is no place for it.
    pub fn enter(&mut self, frame: Frame, to: Address, now_ms: u64) -> Result<(), Frame> {
        let same = self.places.iter().filter(|waiting| waiting.to == to).count();
        if self.places.len() >= PLACES || same >= PLACES_EACH {
            return Err(frame);
        }
        self.places.push_back(Waiting { frame, to, until_ms: now_ms + PATIENCE_MS });
        Ok(())
    }

    /// How many are to be looked at again now: all of them, now and then.
    pub fn due(&mut self, now_ms: u64) -> usize {
        if self.places.is_empty() || now_ms < self.looked_ms + LOOK_MS {
            return 0;
        }
        self.looked_ms = now_ms;
        self.places.len()
    }

    /// The one that has waited longest.
    pub fn leave(&mut self) -> Option<Waiting> {
        self.places.pop_front()
    }

    /// Back to the end of the line.
    pub fn stay(&mut self, waiting: Waiting) {
        self.places.push_back(waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u64) -> Frame {
        Frame::for_test(number)
    }

    fn to(last: u8) -> Address {
        Address::from_v4([198, 18, 0, last])
    }

    #[test]
    fn one_destination_has_some_places_and_all_together_more() {
        let mut room = WaitingRoom::default();
        let entered = (0..6).filter(|number| room.enter(frame(*number), to(1), 0).is_ok()).count();
        assert_eq!(entered, PLACES_EACH);
        for last in 2..=17 {
            (0..4).for_each(|number| drop(room.enter(frame(number), to(last), 0)));
        }
        assert_eq!(room.due(LOOK_MS), PLACES);
        assert_eq!(room.enter(frame(9), to(99), 0), Err(frame(9)));
    }

    #[test]
    fn each_is_looked_at_now_and_then_until_its_time_is_over() {
        let mut room = WaitingRoom::default();
        room.enter(frame(1), to(1), 100).expect("a place");
        room.enter(frame(2), to(2), 101).expect("a place");
        assert_eq!((room.due(101), room.due(101 + LOOK_MS - 1), room.due(101 + LOOK_MS)), (2, 0, 2));
        let first = room.leave().expect("it waits");
        assert_eq!((&first.frame, first.is_over(100 + PATIENCE_MS - 1)), (&frame(1), false));
        room.stay(first);
        let order: Vec<Frame> = std::iter::from_fn(|| room.leave()).map(|waiting| waiting.frame).collect();
        assert_eq!(order, [frame(2), frame(1)]);
        assert_eq!(room.due(200), 0);
    }
}
