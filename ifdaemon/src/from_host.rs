//! From the device to the switchers (patent Fig. 8): what the box's own programs send.
//!
//! Unlike a switcher, the daemon may wait: while a ring has no room for what one read can bring, packets stay in the
//! device's queue, where the kernel's TCP sees that it has to slow down. A switcher that takes nothing for [`PATIENCE`] is
//! not waited for: its packets are dropped and counted, so that the others' go on.

use std::time::{Duration, Instant};

use shunt_protocol::limits::STORE_PACKETS;
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::regions::{DaemonDrop, IfdaemonHead, StoreDaemon};
use shunt_shmlayout::store::{PACKET_BYTES, PacketProducer, PushError};
use zerocopy::FromBytes;

use crate::addresses::Addresses;
use crate::device::Device;
use crate::inspect::inspect;
use crate::offload::segment::segment;
use crate::offload::vnet_header::{SEGMENT_NONE, VnetHeader};

/// Segments that one read brings at the most, of usual size (65535 / 1448 = 46).
const BURST: u64 = 64;
const _: () = assert!(BURST <= *STORE_PACKETS.start() as u64);

/// How long a full ring holds up the others: longer than a switcher that shares its CPU may have to wait for it.
const PATIENCE: Duration = Duration::from_millis(20);
/// Reads a turn at the most, so that the other direction has its turn too.
const READS: usize = 32;
/// Largest packet with offloads, and its header.
const BUFFER: usize = 65536 + 64;

/// The way to one switcher.
struct Lane {
    ring: PacketProducer<'static>,
    counters: &'static StoreDaemon<Writer>,
    /// Since when there has been no room.
    full_since: Option<Instant>,
}

impl Lane {
    /// Whether its switcher is worth waiting for.
    fn must_wait(&mut self, now: Instant) -> bool {
        if self.ring.room() >= BURST {
            self.full_since = None;
            return false;
        }
        now.duration_since(*self.full_since.get_or_insert(now)) < PATIENCE
    }

    fn push(&mut self, head: &IfdaemonHead<Writer>, packet: &[u8]) {
        match self.ring.push(packet) {
            Ok(()) => {
                self.counters.packets_out.add(1);
                head.packets_out.add(1);
                head.bytes_out.add(packet.len() as u64);
            }
            Err(PushError::Full) => {
                self.counters.dropped.add(1);
                drop_by(head, DaemonDrop::RingFull);
            }
            Err(PushError::Oversized) => drop_by(head, DaemonDrop::Oversized),
        }
    }
}

/// Counts a dropped packet.
pub fn drop_by(head: &IfdaemonHead<Writer>, reason: DaemonDrop) {
    head.drops[reason as usize].add(1);
}

/// The direction's state.
pub struct FromHost {
    lanes: Vec<Lane>,
    head: &'static IfdaemonHead<Writer>,
    addresses: Addresses,
    mtu: usize,
    has_offloads: bool,
    buffer: Vec<u8>,
}

/// What a turn came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Packets were moved.
    Moved,
    /// There was nothing to do.
    Idle,
    /// There may be something, but no room for it.
    Waits,
}

impl FromHost {
    /// To these rings, in the order of their switchers.
    pub fn new(
        rings: Vec<(PacketProducer<'static>, &'static StoreDaemon<Writer>)>,
        head: &'static IfdaemonHead<Writer>,
        addresses: Addresses,
        mtu: u32,
        has_offloads: bool,
    ) -> Self {
        let lanes = rings.into_iter().map(|(ring, counters)| Lane { ring, counters, full_since: None }).collect();
        Self { lanes, head, addresses, mtu: mtu as usize, has_offloads, buffer: vec![0; BUFFER] }
    }

    /// Reads until the device has nothing or a ring has no room. Fails if the device is gone.
    pub fn turn(&mut self, device: &Device) -> nix::Result<Progress> {
        let mut progress = Progress::Idle;
        for _ in 0..READS {
            let now = Instant::now();
            if self.lanes.iter_mut().any(|lane| lane.must_wait(now)) {
                progress = Progress::Waits;
                break;
            }
            let Some(length) = device.read(&mut self.buffer)? else { break };
            self.head.reads.add(1);
            self.take(length);
            progress = Progress::Moved;
        }
        for lane in &mut self.lanes {
            lane.ring.publish(); // a switcher polls, or looks each millisecond: there is nobody to wake
        }
        Ok(progress)
    }

    /// Checks what was read, and gives its packets to the switcher of its connection.
    fn take(&mut self, length: usize) {
        let bytes = &mut self.buffer[..length];
        let (header, packet) = match self.has_offloads {
            true => match VnetHeader::mut_from_prefix(bytes) {
                Ok((header, packet)) => (*header, packet),
                Err(_) => return drop_by(self.head, DaemonDrop::Malformed),
            },
            false => (VnetHeader::default(), bytes),
        };
        let inspected = match inspect(packet) {
            Ok(inspected) => inspected,
            Err(reason) => return drop_by(self.head, reason),
        };
        if !self.addresses.contains(inspected.source) {
            return drop_by(self.head, DaemonDrop::ForeignSource);
        }
        if header.segmentation == SEGMENT_NONE && packet.len() > self.mtu.min(PACKET_BYTES) {
            return drop_by(self.head, DaemonDrop::Oversized);
        }
        let count = self.lanes.len() as u64;
        let (lane, head) = (&mut self.lanes[(inspected.hash % count) as usize], self.head);
        if segment(&header, packet, |packet| lane.push(head, packet)).is_err() {
            drop_by(head, DaemonDrop::Malformed);
        }
    }
}
