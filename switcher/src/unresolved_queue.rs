//! Packets of the box's own programs whose next hop's Ethernet address isn't resolved yet. A kernel queues a few while it asks
//! (RFC 1122 section 2.3.2.2); Shunt, which made the kernel hand them over, does so in its place: otherwise each first contact
//! would cost a retransmission.
//!
//! Owned by the engine. After a crash, the frames queued here are free again.

use std::collections::VecDeque;

use crate::port::Frame;
use shunt_shmlayout::address::Address;

/// Packets queued for all destinations.
const CAPACITY: usize = 64;
const _: () = assert!((crate::port::BATCH + CAPACITY) as u64 <= shunt_shmlayout::regions::FRAMES_IN_HAND);
/// Packets queued for one destination, so that a dead one doesn't fill the queue.
const CAPACITY_EACH: usize = 4;
/// Enough for control to read the request, the kernel to ask twice, and the neighbour to answer.
const TIMEOUT_MS: u64 = 1500;
/// Between two retries.
const RETRY_MS: u64 = 4;

/// A queued packet.
#[derive(Debug, PartialEq, Eq)]
pub struct QueuedPacket {
    /// Its frame, as it was received.
    pub frame: Frame,
    /// Where it goes.
    pub to: Address,
    until_ms: u64,
}

impl QueuedPacket {
    /// Whether it has timed out.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        now_ms >= self.until_ms
    }
}

/// The queue, in order of arrival.
#[derive(Debug)]
pub struct UnresolvedQueue {
    packets: VecDeque<QueuedPacket>,
    retried_ms: u64,
}

impl Default for UnresolvedQueue {
    fn default() -> Self {
        Self { packets: VecDeque::with_capacity(CAPACITY), retried_ms: 0 }
    }
}

impl UnresolvedQueue {
    /// Queues a frame; returns it if there is no room.
    pub fn push(&mut self, frame: Frame, to: Address, now_ms: u64) -> Result<(), Frame> {
        let same = self.packets.iter().filter(|packet| packet.to == to).count();
        if self.packets.len() >= CAPACITY || same >= CAPACITY_EACH {
            return Err(frame);
        }
        self.packets.push_back(QueuedPacket { frame, to, until_ms: now_ms + TIMEOUT_MS });
        Ok(())
    }

    /// How many packets to retry now: all of them, once in [`RETRY_MS`].
    pub fn due(&mut self, now_ms: u64) -> usize {
        if self.packets.is_empty() || now_ms < self.retried_ms + RETRY_MS {
            return 0;
        }
        self.retried_ms = now_ms;
        self.packets.len()
    }

    /// The oldest packet.
    pub fn pop(&mut self) -> Option<QueuedPacket> {
        self.packets.pop_front()
    }

    /// Back to the end of the queue.
    pub fn push_back(&mut self, packet: QueuedPacket) {
        self.packets.push_back(packet);
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
    fn each_destination_has_its_own_limit_below_the_queues() {
        let mut queue = UnresolvedQueue::default();
        let entered = (0..6).filter(|number| queue.push(frame(*number), to(1), 0).is_ok()).count();
        assert_eq!(entered, CAPACITY_EACH);
        for last in 2..=17 {
            (0..4).for_each(|number| drop(queue.push(frame(number), to(last), 0)));
        }
        assert_eq!(queue.due(RETRY_MS), CAPACITY);
        assert_eq!(queue.push(frame(9), to(99), 0), Err(frame(9)));
    }

    #[test]
    fn packets_are_retried_now_and_then_until_they_time_out() {
        let mut queue = UnresolvedQueue::default();
        queue.push(frame(1), to(1), 100).expect("room");
        queue.push(frame(2), to(2), 101).expect("room");
        assert_eq!((queue.due(101), queue.due(101 + RETRY_MS - 1), queue.due(101 + RETRY_MS)), (2, 0, 2));
        let first = queue.pop().expect("queued");
        assert_eq!((&first.frame, first.is_expired(100 + TIMEOUT_MS - 1)), (&frame(1), false));
        queue.push_back(first);
        let order: Vec<Frame> = std::iter::from_fn(|| queue.pop()).map(|packet| packet.frame).collect();
        assert_eq!(order, [frame(2), frame(1)]);
        assert_eq!(queue.due(200), 0);
    }
}
