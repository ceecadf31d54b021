//! The packet filter (patent Fig. 6, packet filter module 74): decides what happens to one frame.
//!
//! It is a function of a frame, the tables in shared memory and the time, and calls no system, so tests, fuzzers and
//! benchmarks run it without a network. A batch goes through in three steps, each over all of its frames, so that one
//! frame's cache misses are hidden behind the others' work: [`Filter::parse`] reads the headers and prefetches the index
//! bucket, [`Filter::prefetch`] prefetches the entry, [`Filter::decide`] decides and re-writes.

#[cfg(test)]
mod border_tests;
mod choose;
#[cfg(test)]
mod choose_tests;
mod decide;
mod forward;
mod host;
#[cfg(test)]
mod host_tests;
mod icmp_error;
#[cfg(test)]
mod icmp_error_tests;
mod limiter;
mod mode;
mod parse_error;
pub(crate) mod prefetch;
mod stale;
#[cfg(test)]
mod stale_tests;
mod tcp_state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod unfilled_checksum;

use choose::Candidates;
pub use choose::Loads;
use limiter::Limiter;
use parse_error::drop_reason;
use shunt_packet::{Address, ArpFields, Flow, PROTOCOL_ICMP, Packet, Parsed, PortBe};
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::address::{BackendId, InterfaceId, ServiceId};
use shunt_shmlayout::config_table::Generation;
use shunt_shmlayout::connections::{Activity, Handle, Key, Owner, Side, Snapshot, State};
use shunt_shmlayout::drop_reason::DropReason;
use shunt_shmlayout::endpoints::Endpoint;
use shunt_shmlayout::mode::Mode;
use shunt_shmlayout::neighbours::Neighbours;
use shunt_shmlayout::notice::Notice;
use shunt_shmlayout::regions::{InterfaceRecord, ResolveRequest, SwitcherRegion};
use shunt_shmlayout::ring::Producer;

/// What the filter decided about a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Send the frame, re-written and of this length from where its buffer starts, by this interface.
    Forward(InterfaceId, usize),
    /// Send the frame, turned into an answer of this length, by the port it came from.
    Reply(usize),
    /// Give the packet, re-written and ending at this length, to the box's own programs.
    ToHost(usize),
    /// Give the frame's buffer back and count.
    Drop(DropReason),
    /// Keep the frame, which is as it was, and decide again: the Ethernet address on the way there is being asked for.
    Wait(Address),
    /// Nothing of Shunt's: where the kernel has the packet too, it is the kernel's.
    NotOurs,
}

/// What a frame is about, found from its headers.
#[derive(Clone, Copy, Debug)]
enum Subject {
    /// An ARP packet.
    Arp(ArpFields),
    /// To a service: from a client.
    Service(ServiceId),
    /// From a backend: to a client.
    Backend(BackendId),
    /// An ICMP error about a connection, from this side of it.
    Error(Side),
    /// To a service's address, but to none of its ports.
    ServiceAddress,
    /// To the box's own programs.
    Host,
    /// From the box's own programs, to somewhere else.
    FromHost,
    /// None of these.
    NotOurs,
    /// Refused by the parser.
    Malformed(DropReason),
}

/// What [`Filter::parse`] and [`Filter::prefetch`] find out about a packet for [`Filter::decide`].
#[derive(Clone, Copy, Debug)]
pub struct PacketMetadata {
    subject: Subject,
    flow: Flow,
    /// Hash of the connection's side that this packet shows.
    hash: u64,
    /// Where its connection seems to stand.
    likely: Option<Handle>,
    /// The backend chosen early for a packet that seems to begin a connection.
    choice: Option<Choice>,
    /// Whether the kernel receives the packet, too.
    kernel_has_it: bool,
}

/// What [`Filter::decide`] hands to its steps.
#[derive(Clone, Copy)]
struct Context<'a> {
    tables: &'static Generation,
    metadata: &'a PacketMetadata,
    /// Where the frame came in.
    interface: InterfaceId,
    now_ms: u64,
}

impl<'a> Context<'a> {
    #[inline]
    fn flow(&self) -> &'a Flow {
        &self.metadata.flow
    }
}

/// The backend that a new connection goes to.
#[derive(Clone, Copy, Debug)]
struct Choice {
    service: ServiceId,
    backend: BackendId,
    /// The service's mode.
    mode: Mode,
    /// Hash of the connection's backend side.
    backend_hash: u64,
}

impl PacketMetadata {
    /// Of no packet.
    pub const NONE: Self =
        Self { subject: Subject::NotOurs, flow: NO_FLOW, hash: 0, likely: None, choice: None, kernel_has_it: false };
    /// Of a packet whose endpoint is in the table with a kind that this build doesn't know.
    const UNREADABLE: Self = Self { subject: Subject::Malformed(DropReason::BadTable), ..Self::NONE };
}

const NO_FLOW: Flow = Flow {
    source: Address([0; 16]),
    destination: Address([0; 16]),
    source_port: PortBe::ZERO,
    destination_port: PortBe::ZERO,
    network_offset: 0,
    transport_offset: 0,
    end: 0,
    payload_length: 0,
    protocol: 0,
    tcp_flags: 0,
    ttl: 0,
    reserved_flag: false,
};

/// The tables that the filter decides by, and what it keeps for itself.
pub struct Filter {
    generation: Option<&'static Generation>,
    owner: Owner<'static>,
    neighbours: Neighbours<'static>,
    interfaces: Vec<InterfaceRecord>,
    region: SwitcherRegion<Writer>,
    /// Next hops that control is asked to have resolved.
    requests: Producer<'static, ResolveRequest, 4>,
    loads: Loads,
    candidates: Box<Candidates>,
    limiter: Limiter,
}

impl Filter {
    /// Joins the tables. `interfaces` is indexed by interface id.
    pub fn new(
        owner: Owner<'static>,
        neighbours: Neighbours<'static>,
        interfaces: Vec<InterfaceRecord>,
        region: SwitcherRegion<Writer>,
        loads: Loads,
    ) -> Self {
        Self {
            generation: None,
            owner,
            neighbours,
            interfaces,
            region,
            requests: region.resolve_requests.producer(),
            loads,
            candidates: Box::default(),
            limiter: Limiter::default(),
        }
    }

    /// Decides by this generation from now on.
    pub fn follow(&mut self, generation: &'static Generation) {
        self.generation = Some(generation);
    }

    /// Parses a frame's headers, finds what it is about, and prefetches the index bucket that it will need. `kernel_has_it`:
    /// the kernel receives the packet, too.
    #[inline]
    pub fn parse(&self, frame: &[u8], interface: InterfaceId, kernel_has_it: bool) -> PacketMetadata {
        let Some(tables) = self.generation else {
            return PacketMetadata::NONE; // nothing was published yet
        };
        let Some(here) = self.interfaces.get(usize::from(interface.0)) else {
            return if host::is_host(interface) { self.parse_from_host(tables, frame) } else { PacketMetadata::NONE };
        };
        match Packet::parse(frame, &here.mac) {
            Ok(Parsed::Ip(flow)) => self.classify(tables, frame, flow, kernel_has_it),
            Ok(Parsed::Arp(fields)) => PacketMetadata { subject: Subject::Arp(fields), ..PacketMetadata::NONE },
            Err(error) => self.classify_refused(tables, frame, &here.mac, drop_reason(error), kernel_has_it),
        }
    }

    /// Whose packet it is: Fig. 6 step 206, "is the packet a valid service entry?", and for a reply, whose backend's.
    #[inline]
    fn classify(&self, tables: &Generation, frame: &[u8], flow: Flow, kernel_has_it: bool) -> PacketMetadata {
        let side = match tables.find(&flow.destination, flow.destination_port, flow.protocol) {
            Some(Endpoint::Service(id)) => Some((Subject::Service(id), client_key(&flow, id))),
            Some(Endpoint::HostService(_)) => {
                return PacketMetadata { subject: Subject::Host, flow, kernel_has_it, ..PacketMetadata::NONE };
            }
            Some(Endpoint::Unknown) => return PacketMetadata { flow, kernel_has_it, ..PacketMetadata::UNREADABLE },
            Some(Endpoint::Backend(_) | Endpoint::Address(_)) | None => {
                match tables.find(&flow.source, flow.source_port, flow.protocol) {
                    Some(Endpoint::Backend(id)) => Some((Subject::Backend(id), backend_key(&flow, id))),
                    Some(Endpoint::Unknown) => {
                        return PacketMetadata { flow, kernel_has_it, ..PacketMetadata::UNREADABLE };
                    }
                    Some(Endpoint::Service(_) | Endpoint::HostService(_) | Endpoint::Address(_)) | None => None,
                }
            }
        };
        if let Some((subject, key)) = side {
            let hash = self.owner.table().hash(&key);
            prefetch::line(self.owner.table().first_bucket(key.side, hash));
            return PacketMetadata { subject, flow, hash, likely: None, choice: None, kernel_has_it };
        }
        let subject = match tables.find(&flow.destination, PortBe::ZERO, 0) {
            Some(Endpoint::Address(address_use)) => Self::classify_address(address_use, tables, frame, &flow),
            Some(_) => Subject::Malformed(DropReason::BadTable),
            None if flow.protocol == PROTOCOL_ICMP => {
                icmp_error::classify(tables, frame, &flow).unwrap_or(Subject::NotOurs)
            }
            None => Subject::NotOurs,
        };
        PacketMetadata { subject, flow, kernel_has_it, ..PacketMetadata::NONE }
    }

    /// Prefetches the connection table entry that a frame will need; its bucket has arrived by now. For a packet that seems to
    /// begin a connection, chooses the backend if that can be done now, and prefetches what recording it will touch.
    #[inline]
    pub fn prefetch(&self, metadata: &mut PacketMetadata) {
        let (side, service) = match metadata.subject {
            Subject::Service(id) => (Side::Client, Some(id)),
            Subject::Backend(_) => (Side::Backend, None),
            _ => return,
        };
        metadata.likely = self.owner.table().likely(side, metadata.hash);
        if let Some(likely) = metadata.likely {
            prefetch::line(self.owner.table().line(likely.id));
        } else if let (Some(id), Some(tables)) = (service, self.generation)
            && decide::is_new(&metadata.flow)
        {
            metadata.choice = self.choose_early(tables, id, metadata);
            if let Some(choice) = metadata.choice {
                prefetch::line(self.owner.table().first_bucket(Side::Backend, choice.backend_hash));
            }
        }
    }

    /// Counts a notice about a packet that is forwarded.
    #[cold]
    fn note(&self, notice: Notice) {
        self.region.head.notices[notice as usize].add(1);
    }

    /// Frees expired connections, examining `budget` entries. Returns how many were freed.
    pub fn sweep(&mut self, budget: usize, now_ms: u64) -> usize {
        let Some(tables) = self.generation else { return 0 };
        let closing = closing(self.region);
        self.owner.sweep(budget, |connection, activity| is_over(tables, connection, activity, now_ms), closing)
    }
}

/// Counts each connection that is freed.
fn closing(region: SwitcherRegion<Writer>) -> impl FnMut(&Snapshot, &Activity) {
    move |connection, _| {
        if let Some(counters) = region.backends.get(usize::from(connection.backend.0)) {
            counters.closed.add(1);
        }
    }
}

/// Whether a connection has been silent for longer than its state allows. Times can be read also of a service whose record
/// has a number that this build doesn't know: its connections are another build's to serve, and stay.
fn is_over(tables: &Generation, connection: &Snapshot, activity: &Activity, now_ms: u64) -> bool {
    let service = tables.services.get(usize::from(connection.service.0)).map(|record| record.load());
    let Some(service) = service.filter(|record| record.protocol != 0) else { return true };
    let limit_ms = match activity.state {
        State::Dead => 0,
        State::Opening => service.timeouts.opening_ms,
        State::Established => service.timeouts.established_ms,
        State::Closing => service.timeouts.closing_ms,
        State::Closed => service.timeouts.closed_ms,
    };
    now_ms.saturating_sub(activity.last_seen_ms) > u64::from(limit_ms)
}

#[inline]
fn client_key(flow: &Flow, service: ServiceId) -> Key {
    Key { side: Side::Client, client: flow.source, client_port: flow.source_port, id: service.0 }
}

#[inline]
fn backend_key(flow: &Flow, backend: BackendId) -> Key {
    Key { side: Side::Backend, client: flow.destination, client_port: flow.destination_port, id: backend.0 }
}

/// Whether a frame that the parser refused was meant for a service: only then it is ours to count where the kernel has
/// it too. Reads only the destination of untagged IPv4.
#[cold]
fn is_to_service(tables: &Generation, frame: &[u8]) -> bool {
    match frame {
        [_, _, _, _, _, _, _, _, _, _, _, _, 0x08, 0x00, header @ ..] => header
            .get(16..20)
            .is_some_and(|to| tables.address_use(&Address::from_v4([to[0], to[1], to[2], to[3]])).is_some()),
        _ => false,
    }
}
