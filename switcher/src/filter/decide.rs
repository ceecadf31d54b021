//! The decision of the packet filter, patent Fig. 6, with its step numbers.

use super::choose::NoChoice;
use super::tcp_state::{Sender, begins};
use super::{Choice, Context, Filter, PacketMetadata, Subject, Verdict, backend_key, client_key, closing};
use shunt_packet::{ArpFields, Buffer, Flow, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, arp, reply};
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::address::{BackendId, InterfaceId, Protocol, ServiceId};
use shunt_shmlayout::config_table::{FibRoute, Generation};
use shunt_shmlayout::connections::{
    Activity, Found, LastHop, RecordError, Side as TableSide, SideHashes, Snapshot, State,
};
use shunt_shmlayout::drop_reason::DropReason;
use shunt_shmlayout::endpoints::AddressUse;
use shunt_shmlayout::mode::Mode;
use shunt_shmlayout::notice::Notice;
use shunt_shmlayout::record::Counter;
use shunt_shmlayout::regions::{InterfaceSide, ServiceCounters};

/// Entries examined to make room in a full table.
const EVICTION_BUDGET: usize = 64;

impl Filter {
    /// Decides what happens to a frame (steps 202 to 224), re-writing it in place. The buffer may go on behind the packet's
    /// end: an answer may use the room.
    #[inline]
    pub fn decide(
        &mut self,
        frame: &mut Buffer<'_>,
        metadata: &PacketMetadata,
        interface: InterfaceId,
        now_ms: u64,
    ) -> Verdict {
        let Some(tables) = self.generation else { return Verdict::NotOurs };
        let (flow, context) = (&metadata.flow, Context { tables, metadata, interface, now_ms });
        match metadata.subject {
            // Step 206: a valid service entry.
            Subject::Service(id) => {
                let found = self.owner.table().find_likely(&client_key(flow, id), metadata.hash, metadata.likely);
                match &found {
                    // Step 212, yes: its own backend (step 220).
                    Some(found) if !self.is_reused(found, flow) => self.pass_to_backend(frame, &context, found),
                    // Step 210, yes: a new connection (steps 214 to 218).
                    _ if is_new(flow) => self.admit(frame, &context, id),
                    // Step 212, no: reset or drop (step 208).
                    _ => self.refuse(frame, flow, DropReason::NoConnection, now_ms),
                }
            }
            // The same figure for the way back: an existing connection, or neither.
            Subject::Backend(id) => {
                match self.owner.table().find_likely(&backend_key(flow, id), metadata.hash, metadata.likely) {
                    Some(_) if self.is_spoofed(tables, id, interface) => Verdict::Drop(DropReason::SpoofedBackend),
                    Some(found) => self.send_to_client(frame, &context, &found),
                    None if tables.address_use(&flow.destination) == Some(AddressUse::Host) => {
                        Verdict::ToHost(usize::from(flow.end))
                    }
                    // It may be the box's own connection to its backend, such as a health check: a reset would cut it.
                    None if metadata.kernel_has_it => Verdict::NotOurs,
                    None => self.refuse(frame, flow, DropReason::NoConnection, now_ms),
                }
            }
            Subject::Error(side) => self.pass_error_on(tables, frame, metadata, side, interface),
            // Step 206, no: reset or drop (step 208).
            Subject::ServiceAddress => self.answer_address(frame, flow, now_ms),
            Subject::Host => self.send_to_host(frame, flow, interface, now_ms),
            Subject::FromHost => self.send_from_host(tables, frame, flow),
            Subject::Arp(fields) => self.answer_arp(tables, frame, &fields, interface),
            Subject::Malformed(reason) => Verdict::Drop(reason),
            Subject::NotOurs => Verdict::NotOurs,
        }
    }

    /// Whether a client uses the port of a connection that is over for a new one. The old entry is unlinked.
    fn is_reused(&self, found: &Found, flow: &Flow) -> bool {
        let over = flow.protocol == PROTOCOL_TCP
            && begins(flow.tcp_flags)
            && self.owner.table().activity(found).state == State::Closed;
        if over {
            self.owner.table().unlink(found);
        }
        over
    }

    /// A new connection: chooses its backend by the configuration table (step 214), records it (218) and sends the
    /// packet there (216, 224).
    fn admit(&mut self, frame: &mut Buffer<'_>, context: &Context, id: ServiceId) -> Verdict {
        let &Context { tables, metadata, interface, now_ms } = context;
        let flow = context.flow();
        if interface != InterfaceId::HOST && tables.address_use(&flow.source).is_some() {
            return Verdict::Drop(DropReason::SpoofedService);
        }
        if self.has_unfilled_checksum(frame, flow, interface, now_ms) {
            return Verdict::Drop(DropReason::ChecksumUnfilled);
        }
        match metadata.choice.map_or_else(|| self.choose(tables, id, metadata, now_ms), Ok) {
            Ok(choice) => {
                let opened = self.open(frame, context, choice);
                self.begin(frame, context, opened)
            }
            Err(NoChoice::BadTable) => Verdict::Drop(DropReason::BadTable),
            Err(NoChoice::NoBackend) => {
                if let Some(counters) = self.region.services.get(usize::from(id.0)) {
                    counters.refused.add(1);
                }
                self.refuse(frame, flow, DropReason::NoBackend, now_ms)
            }
        }
    }

    /// Step 218: records a connection to the backend that was chosen. Returns another switcher's record of it, which may
    /// name another backend, if that was faster.
    pub(super) fn open(&mut self, frame: &[u8], context: &Context, choice: Choice) -> Result<Found, DropReason> {
        let &Context { tables, metadata, interface, now_ms } = context;
        let flow = &metadata.flow;
        let backend = tables.backend(choice.backend).ok_or(DropReason::BadTable)?;
        let protocol = Protocol::of(flow.protocol).ok_or(DropReason::Protocol)?;
        if backend.address == flow.source {
            return Err(DropReason::BackendToItself);
        }
        let connection = Snapshot {
            client: flow.source,
            client_port: flow.source_port,
            service: choice.service,
            backend: choice.backend,
            protocol: protocol.into(),
            mode: choice.mode.into(),
            created_ms: now_ms,
        };
        let hashes = SideHashes { client: metadata.hash, backend: choice.backend_hash };
        match self.record(&connection, first_state(protocol), hashes, super::forward::last_hop(frame, interface)) {
            Ok(found) => {
                if backend.interface == interface {
                    self.note_on_link(context, &choice);
                }
                Ok(found)
            }
            Err(RecordError::Twin) => {
                let found = self.owner.table().find(&connection.key(TableSide::Client), hashes.client);
                found.ok_or(DropReason::NoConnection)
            }
            Err(RecordError::TableFull) => Err(DropReason::TableFull),
            Err(RecordError::ProbesFull) => Err(DropReason::TableProbes),
            Err(RecordError::BackendSideTaken) => Err(DropReason::BackendSideTaken),
        }
    }

    /// Sends the first packet of a connection to its backend (216, 224), if it was opened.
    pub(super) fn begin(
        &mut self,
        frame: &mut Buffer<'_>,
        context: &Context,
        opened: Result<Found, DropReason>,
    ) -> Verdict {
        let found = match opened {
            Ok(found) => found,
            Err(reason @ DropReason::BackendToItself) => {
                return self.refuse(frame, context.flow(), reason, context.now_ms);
            }
            Err(reason) => return Verdict::Drop(reason),
        };
        match context.tables.backend(found.connection.backend) {
            // Not asked whether it is stale: what was chosen takes connections.
            Some(backend) => self.send_to_backend(frame, context, &found, &backend),
            None => Verdict::Drop(DropReason::BadTable),
        }
    }

    /// Notes a connection that goes out to the link that it came from, if the client is a neighbour there: of the backend,
    /// too, which may answer it without Shunt.
    #[cold]
    fn note_on_link(&self, context: &Context, choice: &Choice) {
        let route = context.tables.route(&context.flow().source);
        if choice.mode.sees_replies() && route == Some(FibRoute::OnLink(context.interface)) {
            self.note(Notice::OnLinkClient);
        }
    }

    /// The entry of a new connection, counted.
    fn record(
        &mut self,
        connection: &Snapshot,
        state: State,
        hashes: SideHashes,
        hop: LastHop,
    ) -> Result<Found, RecordError> {
        let activity = Activity { last_seen_ms: connection.created_ms, state, flags: 0 };
        let mut result = self.owner.record(connection, hashes, activity, hop);
        if result == Err(RecordError::TableFull) && self.owner.evict(EVICTION_BUDGET, closing(self.region)) {
            self.region.head.evicted.add(1);
            result = self.owner.record(connection, hashes, activity, hop);
        }
        let found = result?;
        if let Some(counters) = self.region.services.get(usize::from(connection.service.0)) {
            counters.connections.add(1);
        }
        if let Some(counters) = self.region.backends.get(usize::from(connection.backend.0)) {
            counters.opened.add(1);
        }
        Ok(found)
    }

    /// Whether what comes from a backend's address can't be the backend's: it came in by an interface that leads to clients only
    /// and not to this backend. Anybody among the clients could otherwise answer in the name of the service.
    #[inline]
    pub(super) fn is_spoofed(&self, tables: &Generation, backend: BackendId, interface: InterfaceId) -> bool {
        let side = self.interfaces.get(usize::from(interface.0)).and_then(|here| here.side());
        side == Some(InterfaceSide::Client) && tables.backend(backend).is_none_or(|it| it.interface != interface)
    }

    /// Step 208: a TCP reset, or drop.
    pub(super) fn refuse(&mut self, frame: &mut [u8], flow: &Flow, reason: DropReason, now_ms: u64) -> Verdict {
        if flow.protocol != PROTOCOL_TCP {
            return Verdict::Drop(reason);
        }
        self.refuse_with(flow, now_ms, reason, || reply::tcp_reset(frame, flow))
    }

    /// To an address of services, but to none of them: echo is answered, TCP reset, the rest dropped.
    fn answer_address(&mut self, frame: &mut [u8], flow: &Flow, now_ms: u64) -> Verdict {
        match flow.protocol {
            PROTOCOL_ICMP => match super::icmp_error::refusal(frame, flow) {
                Some(reason) => Verdict::Drop(reason),
                None => self.answer_echo(frame, flow, now_ms),
            },
            PROTOCOL_TCP | PROTOCOL_UDP => self.refuse(frame, flow, DropReason::NoService, now_ms),
            _ => Verdict::Drop(DropReason::Protocol),
        }
    }

    /// A client's packet whose time to live ends here.
    #[cold]
    pub(super) fn answer_exceeded(&mut self, frame: &mut [u8], flow: &Flow, now_ms: u64) -> Verdict {
        self.refuse_with(flow, now_ms, DropReason::TtlExceeded, || reply::time_exceeded(frame, flow))
    }

    /// Refuses a packet with an answer, if the source's limit allows one and there is one to make. It counts under
    /// `reason` either way.
    fn refuse_with(
        &mut self,
        flow: &Flow,
        now_ms: u64,
        reason: DropReason,
        make: impl FnOnce() -> Option<usize>,
    ) -> Verdict {
        let head = self.region.head;
        if !self.limiter.allows(&flow.source, now_ms) {
            head.unanswered.add(1);
            return Verdict::Drop(reason);
        }
        match make() {
            Some(length) => {
                head.answered.add(1);
                head.refused[reason as usize].add(1);
                Verdict::Reply(length)
            }
            None => Verdict::Drop(reason),
        }
    }

    /// Echo is answered, if the source's limit allows it; no other message is.
    fn answer_echo(&mut self, frame: &mut [u8], flow: &Flow, now_ms: u64) -> Verdict {
        if !self.limiter.allows(&flow.source, now_ms) {
            return Verdict::Drop(DropReason::ReplyLimit);
        }
        match reply::echo_reply(frame, flow) {
            Some(length) => {
                self.region.head.answered.add(1);
                Verdict::Reply(length)
            }
            None => Verdict::Drop(DropReason::IcmpType),
        }
    }

    /// ARP for one of Shunt's addresses (RFC 826): a service's from the clients' side, the host's from both.
    fn answer_arp(
        &mut self,
        tables: &Generation,
        frame: &mut [u8],
        fields: &ArpFields,
        interface: InterfaceId,
    ) -> Verdict {
        let Some(here) = self.interfaces.get(usize::from(interface.0)) else { return Verdict::NotOurs };
        let is_ours = match (tables.address_use(&fields.target_address), here.side()) {
            (None, _) => false,
            (Some(AddressUse::Host), _) => true,
            (Some(AddressUse::Services | AddressUse::Shared), Some(side)) => side.has_clients(),
            (Some(AddressUse::Services | AddressUse::Shared), None) => return Verdict::Drop(DropReason::BadTable),
        };
        if fields.operation != arp::Operation::Request || !is_ours {
            return Verdict::NotOurs;
        }
        match reply::arp_reply(frame, &here.mac) {
            Some(length) => {
                self.region.head.answered.add(1);
                Verdict::Reply(length)
            }
            None => Verdict::Drop(DropReason::ArpUnsolicited),
        }
    }

    /// Notes that a packet of a connection goes on, and what it says about the connection's state.
    #[inline]
    pub(super) fn touch(&self, found: &Found, mode: Mode, context: &Context, sender: Sender) {
        let (flow, now_ms) = (context.flow(), context.now_ms);
        // Nearly all packets: nothing is written, because a line that all switchers read should rarely change.
        let before = self.owner.table().activity(found);
        if !flow.reserved_flag && says_nothing_new(before, flow, sender) && is_fresh(before, now_ms) {
            return;
        }
        self.note_activity(found, mode, context, sender);
    }

    #[inline(never)]
    fn note_activity(&self, found: &Found, mode: Mode, context: &Context, sender: Sender) {
        let (flow, now_ms) = (context.flow(), context.now_ms);
        if flow.reserved_flag {
            self.note(Notice::ReservedFlag);
        }
        let ended = self.owner.table().advance(found, |before| {
            let after = match (flow.protocol, sender) {
                (PROTOCOL_TCP, _) => super::tcp_state::next(before, flow.tcp_flags, sender, mode),
                (_, Sender::Backend) => Activity { flags: before.flags | Activity::ANSWERED, ..before },
                (_, Sender::Client) => before,
            };
            if after == before && is_fresh(before, now_ms) {
                before
            } else {
                Activity { last_seen_ms: now_ms, ..after }
            }
        });
        if ended {
            self.count_end(found);
        }
    }

    /// A connection is no longer in flight.
    #[inline]
    pub(super) fn count_end(&self, found: &Found) {
        if let Some(in_flight) = self.region.in_flight.get(usize::from(found.connection.backend.0)) {
            in_flight.subtract(1);
        }
    }

    /// Counts one for a connection's service.
    pub(super) fn count(
        &self,
        found: &Found,
        counter: impl FnOnce(&'static ServiceCounters<Writer>) -> &'static Counter<Writer>,
    ) {
        if let Some(counters) = self.region.services.get(usize::from(found.connection.service.0)) {
            counter(counters).add(1);
        }
    }
}

/// Whether a packet certainly leaves its connection's state and flags as they are.
#[inline]
fn says_nothing_new(before: Activity, flow: &Flow, sender: Sender) -> bool {
    match flow.protocol {
        PROTOCOL_TCP => super::tcp_state::is_plain(before, flow.tcp_flags),
        _ => sender == Sender::Client || before.flags & Activity::ANSWERED != 0,
    }
}

/// Whether the recorded time of the last packet is recent enough to leave it unchanged.
#[inline]
fn is_fresh(activity: Activity, now_ms: u64) -> bool {
    now_ms.saturating_sub(activity.last_seen_ms) < super::forward::LAST_SEEN_GRAIN_MS
}

/// How far a connection is with its first packet.
const fn first_state(protocol: Protocol) -> State {
    match protocol {
        Protocol::Tcp => State::Opening,
        Protocol::Udp => State::Established,
    }
}

/// Step 210: whether a packet without an entry begins a connection.
#[inline]
pub(super) fn is_new(flow: &Flow) -> bool {
    flow.protocol != PROTOCOL_TCP || begins(flow.tcp_flags)
}
