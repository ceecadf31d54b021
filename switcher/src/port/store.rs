//! The packet store as a port (patent Fig. 8, data packet storage area 68): what the engine sends here goes to the box's
//! own programs, what they send is received here.
//!
//! Packets have no Ethernet header in the store. They are copied from and to the frame pool, so no frame ever stands in it.
//! Writer of the switcher's counters and ends of the rings; the interface daemon writes the others.

use std::os::fd::OwnedFd;

use shunt_shmlayout::access::Writer;
use shunt_shmlayout::regions::StoreRegion;
use shunt_shmlayout::store::{PacketConsumer, PacketProducer, Ringer};

use super::{Batch, Frame, Losses, Pool, Port};
use shunt_packet::ethernet;

/// A switcher's end of its packet store.
pub struct StorePort {
    region: StoreRegion<Writer>,
    to_host: PacketProducer<'static>,
    from_host: PacketConsumer<'static>,
    ringer: Ringer<'static>,
    /// The daemon's eventfd.
    event: OwnedFd,
}

impl StorePort {
    /// Goes on where a predecessor stopped. `event` is what the daemon sleeps on.
    pub fn new(region: StoreRegion<Writer>, event: OwnedFd) -> Self {
        let port = Self {
            to_host: region.to_host.producer(),
            from_host: region.from_host.consumer(),
            ringer: Ringer::new(&region.daemon.doorbell),
            region,
            event,
        };
        if region.to_host.depth() > 0 {
            port.signal(); // the predecessor may have died between publishing and this
        }
        port
    }

    fn signal(&self) {
        self.region.switcher.wakes.add(1);
        // A counter that can't take one more is a signal already.
        let _ = nix::unistd::write(&self.event, &1u64.to_ne_bytes());
    }

    /// The next packet, behind an Ethernet header.
    fn take(&mut self, pool: &mut Pool) -> Option<Frame> {
        let mut frame = pool.take()?;
        let room = pool.room_mut(&frame);
        let Some(length) = self.from_host.pop(&mut room[ethernet::HEADER_LENGTH..]) else {
            pool.give(frame);
            return None;
        };
        ethernet::emit_host_header(room);
        frame.length = (ethernet::HEADER_LENGTH + length) as u32;
        self.region.switcher.packets_out.add(1);
        self.region.switcher.bytes_out.add(length as u64);
        Some(frame)
    }
}

impl Port for StorePort {
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch) {
        // Without a free frame packets stay in the ring.
        while batch.room() > 0
            && self.from_host.has_packet()
            && let Some(frame) = self.take(pool)
        {
            batch.push(frame).unwrap_or_else(|frame| pool.give(frame));
        }
    }

    fn send(&mut self, pool: &mut Pool, frame: Frame) -> Result<(), Frame> {
        let bytes = pool.bytes(&frame);
        let packet = ethernet::network_offset(bytes).map_or(&[][..], |offset| &bytes[offset..]);
        let counters = self.region.switcher;
        if self.to_host.push(packet).is_err() {
            counters.dropped.add(1);
            return Err(frame);
        }
        counters.packets_in.add(1);
        counters.bytes_in.add(packet.len() as u64);
        pool.give(frame);
        Ok(())
    }

    /// Publishes the burst, and signals the daemon if it sleeps: one system call at most.
    fn flush(&mut self, _pool: &mut Pool) {
        if self.to_host.publish() && self.ringer.must_ring() {
            self.signal();
        }
    }

    fn kernel_has_it(&self) -> bool {
        false
    }

    fn losses(&mut self) -> Losses {
        Losses::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BATCH, pool::tests::pool};
    use super::*;
    use nix::sys::eventfd::{EfdFlags, EventFd};
    use shunt_packet::testing::udp;
    use shunt_shmlayout::regions::{StoreShape, Whole};

    fn region(cells: u32) -> StoreRegion<Writer, Writer> {
        StoreRegion::anonymous(&StoreShape::new(cells)).expect("anonymous memory")
    }

    fn port(region: StoreRegion<Writer, Writer>) -> (StorePort, EventFd) {
        let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).expect("an eventfd");
        let copy = std::os::fd::AsFd::as_fd(&event).try_clone_to_owned().expect("a copy");
        (StorePort::new(region.lend(), copy), event)
    }

    fn frame() -> Vec<u8> {
        udp(([198, 18, 0, 2], 4000), ([198, 18, 0, 101], 53)).payload(b"question").build()
    }

    #[test]
    fn packets_lose_their_ethernet_header_on_the_way_in_and_get_one_on_the_way_out() {
        let region = region(8);
        let ((mut port, _), mut pool, mut batch) = (port(region), pool(4), Batch::default());
        let sent = pool.copy_in(&frame()).expect("a free frame");
        assert!(port.send(&mut pool, sent).is_ok());
        let (mut packet, mut consumer) = ([0; 2048], region.to_host.consumer());
        assert_eq!(consumer.pop(&mut packet), None, "published with the burst only");
        port.flush(&mut pool);
        let length = consumer.pop(&mut packet).expect("the packet");
        assert_eq!(packet[..length], frame()[14..]);

        let mut daemon = region.from_host.producer();
        daemon.push(&packet[..length]).expect("room");
        daemon.publish();
        port.receive(&mut pool, &mut batch);
        let received = batch.drain().next().expect("the packet");
        assert_eq!(pool.bytes(&received)[14..], frame()[14..]);
        assert_eq!(pool.bytes(&received)[..6], ethernet::HOST_PORT);
        pool.give(received);
        assert_eq!(pool.free(), 4);
        let counted = region.switcher;
        assert_eq!((counted.packets_in.get(), counted.packets_out.get()), (1, 1));
        assert_eq!((counted.bytes_in.get(), counted.bytes_out.get()), (length as u64, length as u64));
    }

    #[test]
    fn a_full_store_gives_the_frame_back() {
        let region = region(2);
        let ((mut port, _), mut pool) = (port(region), pool(4));
        for number in 0..3 {
            let sent = pool.copy_in(&frame()).expect("a free frame");
            match port.send(&mut pool, sent) {
                Ok(()) => assert!(number < 2),
                Err(frame) => {
                    assert_eq!(number, 2);
                    pool.give(frame);
                }
            }
        }
        assert_eq!((region.switcher.dropped.get(), pool.free()), (1, 4));
    }

    #[test]
    fn the_daemon_is_signalled_once_a_nap_and_only_for_packets() {
        let region = region(8);
        let ((mut port, event), mut pool) = (port(region), pool(4));
        let mut burst = |port: &mut StorePort| {
            let sent = pool.copy_in(&frame()).expect("a free frame");
            assert!(port.send(&mut pool, sent).is_ok());
            port.flush(&mut pool);
        };
        burst(&mut port);
        assert!(event.read().is_err(), "the daemon is awake");
        region.daemon.doorbell.arm();
        burst(&mut port);
        burst(&mut port);
        assert_eq!(event.read().expect("a signal"), 1);
        assert_eq!(region.switcher.wakes.get(), 1);
        let (_successor, event) = self::port(region);
        assert_eq!(event.read().expect("a signal, as packets wait and nobody can know of the first"), 1);
    }

    #[test]
    fn a_batch_takes_no_more_than_it_has_room_and_frames_for() {
        let region = region(128);
        let ((mut port, _), mut pool, mut batch) = (port(region), pool(BATCH + 3), Batch::default());
        let mut daemon = region.from_host.producer();
        (0..100).for_each(|_| daemon.push(&[0x45; 20]).expect("room"));
        daemon.publish();
        port.receive(&mut pool, &mut batch);
        assert_eq!((batch.len(), pool.free(), region.from_host.depth()), (BATCH, 3, 36));
        let held: Vec<Frame> = batch.drain().collect();
        port.receive(&mut pool, &mut batch);
        assert_eq!((batch.len(), pool.free(), region.from_host.depth()), (3, 0, 33));
        held.into_iter().chain(batch.drain()).for_each(|frame| pool.give(frame));
    }
}
