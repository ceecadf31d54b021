//! A port without a network, for tests and benchmarks: two queues of packets, in and out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Batch, Frame, Losses, Pool, Port};

/// The other end of a [`MemoryPort`]: what goes in and what came out.
#[derive(Debug, Clone, Default)]
pub struct Wire(Arc<Mutex<Queues>>);

#[derive(Debug, Default)]
struct Queues {
    arriving: VecDeque<Vec<u8>>,
    departed: VecDeque<Vec<u8>>,
    losses: Losses,
}

impl Wire {
    /// Lets a packet arrive at the port.
    pub fn arrive(&self, packet: impl Into<Vec<u8>>) {
        self.queues().arriving.push_back(packet.into());
    }

    /// The next packet that the port sent.
    pub fn departed(&self) -> Option<Vec<u8>> {
        self.queues().departed.pop_front()
    }

    /// The port at this end.
    pub fn port(&self) -> MemoryPort {
        MemoryPort { wire: self.clone(), limit: usize::MAX }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A port whose packets come from and go to a [`Wire`].
#[derive(Debug)]
pub struct MemoryPort {
    wire: Wire,
    limit: usize,
}

impl MemoryPort {
    /// Makes the transmit queue full at this many packets.
    #[must_use]
    pub fn with_limit(mut self, packets: usize) -> Self {
        self.limit = packets;
        self
    }
}

impl Port for MemoryPort {
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch) {
        let mut queues = self.wire.queues();
        while batch.room() > 0
            && let Some(packet) = queues.arriving.pop_front()
        {
            match pool.copy_in(&packet) {
                Some(frame) => batch.push(frame).unwrap_or_else(|frame| pool.give(frame)),
                None => queues.losses.no_frame += 1,
            }
        }
    }

    fn send(&mut self, pool: &mut Pool, frame: Frame) -> Result<(), Frame> {
        let mut queues = self.wire.queues();
        if queues.departed.len() >= self.limit {
            return Err(frame);
        }
        queues.departed.push_back(pool.bytes(&frame).to_vec());
        pool.give(frame);
        Ok(())
    }

    fn flush(&mut self, _pool: &mut Pool) {}

    fn kernel_has_it(&self) -> bool {
        false
    }

    fn losses(&mut self) -> Losses {
        self.wire.queues().losses
    }

    fn commit_losses(&mut self) {
        self.wire.queues().losses = Losses::default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BATCH, pool::tests::pool};
    use super::*;

    #[test]
    fn packets_go_in_and_out_and_no_frame_is_lost() {
        let (wire, mut pool, mut batch) = (Wire::default(), pool(BATCH), Batch::default());
        let mut port = wire.port().with_limit(BATCH);
        for number in 0..BATCH as u8 + 1 {
            wire.arrive([number; 60]);
        }
        port.receive(&mut pool, &mut batch);
        assert_eq!((batch.len(), pool.free()), (BATCH, 0));
        for frame in batch.drain() {
            assert!(port.send(&mut pool, frame).is_ok());
        }
        port.receive(&mut pool, &mut batch);
        let last = batch.drain().next().expect("the packet that didn't fit the first batch");
        let last = port.send(&mut pool, last).expect_err("the transmit queue is full");
        pool.give(last);
        assert_eq!(pool.free(), BATCH);
        assert_eq!(wire.departed(), Some(vec![0; 60]));
    }
}
