//! The decision of the packet filter, patent Fig. 6, with its step numbers.

use super::tcp_state::{Sender, begins};
use super::{Choice, Filter, Prospect, Subject, Verdict, backend_key, client_key, closing};
use crate::packet::{ArpFields, DropReason, Flow, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, arp, reply};
use shunt_shmlayout::address::{InterfaceId, ServiceId, TCP};
use shunt_shmlayout::config_table::{Generation, MODE_NAT, Route};
use shunt_shmlayout::connections::{Activity, Found, LastHop, Refusal, Side as TableSide, SideHashes, Snapshot, State};
use shunt_shmlayout::endpoints::AddressUse;
use shunt_shmlayout::notice::Notice;
use shunt_shmlayout::record::Counter;
use shunt_shmlayout::regions::{ServiceCounters, Side};

/// Entries looked at to make room in a full table.
const EVICTION_BUDGET: usize = 64;

impl Filter {
    /// Decides what happens to a frame (steps 202 to 224), re-writing it in place. `frame` may be longer than the
    /// packet: an answer may use the room.
    #[inline]
    pub fn decide(&mut self, frame: &mut [u8], it: &Prospect, interface: InterfaceId, now_ms: u64) -> Verdict {
        let Some(tables) = self.generation else { return Verdict::NotOurs };
        let flow = &it.flow;
        match it.subject {
            // Step 206: a valid service entry.
            Subject::Service(id) => {
                let found = self.owner.table().find_likely(&client_key(flow, id), it.hash, it.likely);
                match &found {
                    // Step 212, yes: its own backend (step 220).
                    Some(found) if !self.is_reused(found, flow) => {
                        self.pass_to_backend(tables, frame, it, found, interface, now_ms)
                    }
                    // Step 210, yes: a new connection (steps 214 to 218).
                    _ if is_new(flow) => self.admit(tables, frame, it, id, interface, now_ms),
                    // Step 212, no: reset or drop (step 208).
                    _ => self.refuse(frame, flow, DropReason::NoConnection, now_ms),
                }
            }
            // The same figure for the way back: an existing connection, or neither.
            Subject::Backend(id) => match self.owner.table().find_likely(&backend_key(flow, id), it.hash, it.likely) {
                Some(found) => self.send_to_client(tables, frame, flow, &found, interface, now_ms),
                None if tables.address_use(&flow.destination) == Some(AddressUse::Host) => {
                    Verdict::ToHost(usize::from(flow.end))
                }
                // Perhaps the box's own connection to its backend, such as a health check: a reset would cut it.
                None if it.is_tap => Verdict::NotOurs,
                None => self.refuse(frame, flow, DropReason::NoConnection, now_ms),
            },
            Subject::Error(side) => self.pass_error_on(tables, frame, it, side, interface),
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
            && self.owner.table().entry(found.id).activity().state == State::Closed;
        if over {
            self.owner.table().unlink(found);
        }
        over
    }

    /// A new connection: chooses its backend by the configuration table (step 214), records it (218) and sends the
    /// packet there (216, 224).
    fn admit(
        &mut self,
        tables: &Generation,
        frame: &mut [u8],
        it: &Prospect,
        id: ServiceId,
        interface: InterfaceId,
        now_ms: u64,
    ) -> Verdict {
        let flow = &it.flow;
        if interface != InterfaceId::HOST && tables.address_use(&flow.source).is_some() {
            return Verdict::Drop(DropReason::SpoofedService);
        }
        if self.has_unfilled_checksum(frame, flow, interface, now_ms) {
            return Verdict::Drop(DropReason::ChecksumUnfilled);
        }
        match it.choice.or_else(|| self.choose(tables, id, it, now_ms)) {
            Some(choice) => self.open(tables, frame, it, choice, interface, now_ms),
            None => self.refuse_new(frame, flow, id, now_ms),
        }
    }

    /// No backend of the service takes the connection.
    pub(super) fn refuse_new(&mut self, frame: &mut [u8], flow: &Flow, id: ServiceId, now_ms: u64) -> Verdict {
        if let Some(counters) = self.region.services.get(usize::from(id.0)) {
            counters.refused.add(1);
        }
        self.refuse(frame, flow, DropReason::NoBackend, now_ms)
    }

    /// Records a connection to the backend that was chosen (step 218), and sends the packet there (216, 224).
    pub(super) fn open(
        &mut self,
        tables: &Generation,
        frame: &mut [u8],
        it: &Prospect,
        choice: Choice,
        interface: InterfaceId,
        now_ms: u64,
    ) -> Verdict {
        let flow = &it.flow;
        let Some(backend) = tables.backend(choice.backend) else { return Verdict::Drop(DropReason::BadTable) };
        if backend.address == flow.source {
            return self.refuse(frame, flow, DropReason::BackendToItself, now_ms);
        }
        if backend.interface == interface.0 {
            self.note_on_link(tables, flow, &choice, interface);
        }
        let connection = Snapshot {
            client: flow.source,
            client_port: flow.source_port,
            service: choice.service,
            backend: choice.backend,
            protocol: flow.protocol,
            mode: choice.mode,
            created_ms: now_ms,
        };
        let hashes = SideHashes { client: it.hash, backend: choice.backend_hash };
        let found = match self.record(&connection, hashes, super::forward::last_hop(frame, interface)) {
            Ok(found) => found,
            Err(reason) => return Verdict::Drop(reason),
        };
        // Another switcher may have been faster, and chosen another one.
        let is_ours = found.connection.backend == choice.backend;
        let backend = if is_ours { Some(backend) } else { tables.backend(found.connection.backend) };
        match backend {
            // Not asked whether it is stale: what was chosen takes connections.
            Some(backend) => self.send_to_backend(frame, flow, &found, &backend, interface, now_ms),
            None => Verdict::Drop(DropReason::BadTable),
        }
    }

    /// Notes a connection that goes out to the link that it came from, if the client is a neighbour there: of the backend,
    /// too, which may answer it without Shunt.
    #[cold]
    fn note_on_link(&self, tables: &Generation, flow: &Flow, choice: &Choice, interface: InterfaceId) {
        if choice.mode == MODE_NAT && tables.route(&flow.source) == Some(Route::OnLink(interface)) {
            self.note(Notice::OnLinkClient);
        }
    }

    /// Step 218: the entry, made by us or at the same time by another switcher.
    fn record(&mut self, connection: &Snapshot, hashes: SideHashes, hop: LastHop) -> Result<Found, DropReason> {
        let state = if connection.protocol == TCP { State::Opening } else { State::Established };
        let activity = Activity { last_seen_ms: connection.created_ms, state, flags: 0 };
        let in_flight = self.region.in_flight.get(usize::from(connection.backend.0));
        let count = || in_flight.into_iter().for_each(|in_flight| in_flight.add(1));
        // Whoever ended it meanwhile has subtracted what is added here.
        let withdrawn = |last: &Activity| {
            if last.flags & Activity::ENDED != 0 {
                count()
            }
        };
        let mut result = self.owner.record(connection, hashes, activity, hop, withdrawn);
        if result == Err(Refusal::TableFull) && self.owner.evict(EVICTION_BUDGET, closing(self.region)) {
            self.region.head.evicted.add(1);
            result = self.owner.record(connection, hashes, activity, hop, withdrawn);
        }
        match result {
            Ok(id) => {
                if let Some(counters) = self.region.services.get(usize::from(connection.service.0)) {
                    counters.connections.add(1);
                }
                if let Some(counters) = self.region.backends.get(usize::from(connection.backend.0)) {
                    counters.opened.add(1);
                }
                count();
                Ok(Found { id, connection: *connection })
            }
            Err(Refusal::Twin) => {
                let found = self.owner.table().find(&connection.key(TableSide::Client), hashes.client);
                found.ok_or(DropReason::NoConnection)
            }
            Err(Refusal::TableFull) => Err(DropReason::TableFull),
            Err(Refusal::ProbesFull) => Err(DropReason::TableProbes),
            Err(Refusal::BackendSideTaken) => Err(DropReason::BackendSideTaken),
        }
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
        let is_ours = match tables.address_use(&fields.target_address) {
            Some(AddressUse::Host) => true,
            Some(AddressUse::Services | AddressUse::Shared) => Side::from_bits(here.side).has_clients(),
            None => false,
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

    /// Notes that a packet of a connection was seen, and what it says about the connection's state.
    #[inline]
    pub(super) fn touch(&self, found: &Found, flow: &Flow, sender: Sender, now_ms: u64) {
        let ended = self.owner.table().entry(found.id).advance(|before| {
            let after = match (flow.protocol, sender) {
                (PROTOCOL_TCP, _) => super::tcp_state::next(before, flow.tcp_flags, sender, found.connection.mode),
                (_, Sender::Backend) => Activity { flags: before.flags | Activity::ANSWERED, ..before },
                (_, Sender::Client) => before,
            };
            let stale = now_ms.saturating_sub(before.last_seen_ms) >= super::forward::LAST_SEEN_GRAIN_MS;
            // Written only now and then: a line that all switchers read should rarely change.
            if after == before && !stale { before } else { Activity { last_seen_ms: now_ms, ..after } }
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
    pub(super) fn count(&self, found: &Found, counter: impl FnOnce(&'static ServiceCounters) -> &'static Counter) {
        if let Some(counters) = self.region.services.get(usize::from(found.connection.service.0)) {
            counter(counters).add(1);
        }
    }
}

/// Step 210: whether a packet without an entry begins a connection.
#[inline]
pub(super) fn is_new(flow: &Flow) -> bool {
    flow.protocol != PROTOCOL_TCP || begins(flow.tcp_flags)
}
