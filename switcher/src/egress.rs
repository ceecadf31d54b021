//! Egress: a switcher's ports and the frame pool that they share. Applies verdicts, and counts.

use crate::filter::Verdict;
use crate::port::{Frame, Pool, Port};
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::address::{Address, InterfaceId};
use shunt_shmlayout::drop_reason::DropReason;
use shunt_shmlayout::regions::SwitcherRegion;

/// A port and what it belongs to.
pub struct Attachment {
    /// The port.
    pub port: Box<dyn Port>,
    /// The interface whose queue it is; [`InterfaceId::HOST`] for the packet store.
    pub interface: InterfaceId,
    /// Whether it receives; else it only sends.
    pub receives: bool,
}

/// A frame that has to wait for its next hop's Ethernet address.
pub struct Held {
    /// The frame, as it was received.
    pub frame: Frame,
    /// Where it goes.
    pub to: Address,
}

/// The ports with the frame pool.
pub struct Egress {
    /// Polled in this order.
    pub ports: Vec<Attachment>,
    /// The frames of all of them.
    pub pool: Pool,
    /// By interface id: which port sends there.
    port_by_interface: Vec<Option<usize>>,
    /// Which port leads to the box's own programs.
    host: Option<usize>,
    region: SwitcherRegion<Writer>,
}

impl Egress {
    /// With these ports.
    pub fn new(ports: Vec<Attachment>, pool: Pool, region: SwitcherRegion<Writer>) -> Self {
        let port_of = |id| ports.iter().position(|port| port.interface == InterfaceId(id));
        let ids = ports.iter().map(|port| port.interface).filter(|id| *id != InterfaceId::HOST);
        let interfaces = ids.map(|id| id.0 + 1).max().unwrap_or(0);
        let (port_by_interface, host) = ((0..interfaces).map(port_of).collect(), port_of(InterfaceId::HOST.0));
        Self { ports, pool, port_by_interface, host, region }
    }

    /// The port of the packet store.
    pub fn host(&self) -> Option<usize> {
        self.host
    }

    /// Applies the filter's verdict to a frame that port `from` received. Returns a frame that has to wait.
    #[inline]
    pub fn apply_verdict(&mut self, verdict: Verdict, frame: Frame, from: usize) -> Option<Held> {
        match verdict {
            Verdict::Forward(to, length) => match self.port_by_interface.get(usize::from(to.0)).copied().flatten() {
                Some(port) => self.send(port, frame, length),
                None => self.discard(frame, DropReason::NoPort),
            },
            Verdict::ToHost(length) => match self.host {
                Some(port) => self.send(port, frame, length),
                None => self.discard(frame, DropReason::NoPort),
            },
            Verdict::Reply(length) => self.send(from, frame, length),
            Verdict::Drop(reason) => self.discard(frame, reason),
            Verdict::Wait(to) => return Some(Held { frame, to }),
            Verdict::NotOurs if self.ports[from].port.kernel_has_it() => {
                self.region.head.passed.add(1);
                self.pool.give(frame);
            }
            Verdict::NotOurs => self.discard(frame, DropReason::NotOurs),
        }
        None
    }

    /// Step 224: into the transmit queue of its port, or, with that full, dropped.
    #[inline]
    fn send(&mut self, port: usize, frame: Frame, length: usize) {
        let to = &mut self.ports[port];
        let interface = to.interface;
        match to.port.send(&mut self.pool, frame.with_length(length as u32)) {
            Ok(()) => {
                self.region.head.sent.add(1);
                if let Some(counters) = self.region.interfaces.get(usize::from(interface.0)) {
                    counters.sent.add(1);
                    counters.bytes_sent.add(length as u64);
                }
            }
            Err(frame) if interface == InterfaceId::HOST => self.discard(frame, DropReason::StoreFull),
            Err(frame) => self.discard(frame, DropReason::TransmitFull),
        }
    }

    /// Gives a frame back, and counts why.
    pub fn discard(&mut self, frame: Frame, reason: DropReason) {
        self.region.head.drops[reason as usize].add(1);
        self.pool.give(frame);
    }
}
