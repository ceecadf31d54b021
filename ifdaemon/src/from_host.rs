//! From the device to the switchers (patent Fig. 8): packets that the box's own programs send.
//!
//! Unlike a switcher, the daemon may wait: while a ring has no room for the segments of one read, packets stay in the
//! device's queue, which slows down the kernel's TCP. If a switcher takes nothing for [`PATIENCE`], its packets are dropped
//! and counted, so that the others' continue.

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

/// Maximum segments of one read at the usual size (65535 / 1448 = 46).
const BURST: u64 = 64;
const _: () = assert!(BURST <= *STORE_PACKETS.start() as u64);

/// How long a full ring may block the others: longer than a switcher that shares its CPU can be descheduled.
const PATIENCE: Duration = Duration::from_millis(20);
/// Maximum reads per turn, so that the other direction gets its turn.
const READS: usize = 32;
/// Largest packet with offloads, plus its vnet header.
const BUFFER: usize = 65536 + 64;

/// The ring of one switcher.
struct Lane {
    ring: PacketProducer<'static>,
    counters: &'static StoreDaemon<Writer>,
    /// When the ring became full; `None` while it has room.
    full_since: Option<Instant>,
}

impl Lane {
    /// Whether the daemon still waits for this switcher.
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

/// State of this direction.
pub struct FromHost {
    lanes: Vec<Lane>,
    head: &'static IfdaemonHead<Writer>,
    addresses: Addresses,
    mtu: usize,
    has_offloads: bool,
    buffer: Vec<u8>,
}

/// Result of a turn.
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
    /// Creates the direction from these rings, in switcher order.
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

    /// Reads until the device is empty or a ring has no room. Fails if the device is gone.
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
            lane.ring.publish(); // a switcher polls at least once per millisecond, so no wake-up is needed
        }
        Ok(progress)
    }

    /// Checks the packet that was read, and passes its segments to the switcher of its connection.
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
