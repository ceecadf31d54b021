//! From the switchers to the device (patent Fig. 8): packets for the box's own programs.

use shunt_shmlayout::access::Writer;
use shunt_shmlayout::regions::{DaemonDrop, IfdaemonHead};
use shunt_shmlayout::store::{PACKET_BYTES, PacketConsumer};

use crate::device::Device;
use crate::from_host::drop_by;
use crate::offload::coalesce::Coalescer;

/// Maximum packets per switcher and turn, so that the others and the other direction get their turn.
const BATCH: usize = 64;

/// State of this direction.
pub struct ToHost {
    rings: Vec<PacketConsumer<'static>>,
    head: &'static IfdaemonHead<Writer>,
    /// Joins segments, if the device has offloads.
    coalescer: Option<Coalescer>,
    packet: [u8; PACKET_BYTES],
}

impl ToHost {
    /// Creates the direction from these rings.
    pub fn new(rings: Vec<PacketConsumer<'static>>, head: &'static IfdaemonHead<Writer>, has_offloads: bool) -> Self {
        Self { rings, head, coalescer: has_offloads.then(Coalescer::new), packet: [0; PACKET_BYTES] }
    }

    /// Whether a packet is ready.
    pub fn has_packet(&mut self) -> bool {
        self.rings.iter_mut().any(PacketConsumer::has_packet)
    }

    /// Writes a batch from each ring to the device; returns whether there was any packet.
    pub fn turn(&mut self, device: &Device) -> bool {
        let Self { rings, head, coalescer, packet } = self;
        let mut write = |bytes: &[u8]| {
            head.writes.add(1);
            if device.write(bytes).is_err() {
                drop_by(head, DaemonDrop::DeviceRefused);
            }
        };
        let mut moved = false;
        for ring in rings {
            for _ in 0..BATCH {
                let Some(length) = ring.pop(packet) else { break };
                moved = true;
                head.packets_in.add(1);
                head.bytes_in.add(length as u64);
                match coalescer {
                    Some(coalescer) => coalescer.push(&packet[..length], &mut write),
                    None => write(&packet[..length]),
                }
            }
            // A connection uses one ring, so the next ring cannot continue this train.
            if let Some(coalescer) = coalescer {
                coalescer.flush(&mut write);
            }
        }
        moved
    }
}
