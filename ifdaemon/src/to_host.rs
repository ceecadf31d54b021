//! From the switchers to the device (patent Fig. 8): what the box's own programs get.

use shunt_shmlayout::access::Writer;
use shunt_shmlayout::regions::{DaemonDrop, IfdaemonHead};
use shunt_shmlayout::store::{PACKET_BYTES, PacketConsumer};

use crate::device::Device;
use crate::from_host::drop_by;
use crate::offload::coalesce::Coalescer;

/// Packets of one switcher a turn at the most, so that the others and the other direction have their turn too.
const BATCH: usize = 64;

/// The direction's state.
pub struct ToHost {
    rings: Vec<PacketConsumer<'static>>,
    head: &'static IfdaemonHead<Writer>,
    /// With offloads.
    coalescer: Option<Coalescer>,
    packet: [u8; PACKET_BYTES],
}

impl ToHost {
    /// From these rings.
    pub fn new(rings: Vec<PacketConsumer<'static>>, head: &'static IfdaemonHead<Writer>, has_offloads: bool) -> Self {
        Self { rings, head, coalescer: has_offloads.then(Coalescer::new), packet: [0; PACKET_BYTES] }
    }

    /// Whether a packet waits.
    pub fn has_packet(&mut self) -> bool {
        self.rings.iter_mut().any(PacketConsumer::has_packet)
    }

    /// Writes a batch of each ring to the device. Whether there was anything.
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
            // A connection's packets come by one ring: what follows isn't in the next one.
            if let Some(coalescer) = coalescer {
                coalescer.flush(&mut write);
            }
        }
        moved
    }
}
