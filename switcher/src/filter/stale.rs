//! Packets of stale connections: the backend is down, or was drained or removed longer ago than its service allows. UDP flows
//! and unanswered connection attempts go to another backend, TCP connections are left or reset, as the service says.
//!
//! An entry holds no sequence numbers, and a receiver believes only a reset that has exactly the next one (RFC 9293
//! 3.10.7.4, RFC 5961 3.2). A packet at hand has two: its own sequence number is the next one of its receiver, its
//! acknowledgement that of its sender. So a segment with data becomes the reset for its receiver, if that had none yet; the
//! sender, whose segment stays unacknowledged, sends it again and is answered with its own. Any other segment is answered at
//! once. An end that sends nothing gets no reset; the timeouts end such connections.

use super::choose::NoChoice;
use super::forward::resets_stale;
use super::host::is_host;
use super::tcp_state::{Sender, begins};
use super::{Choice, Context, Filter, Verdict, mode};
use shunt_packet::tcp::RST;
use shunt_packet::{Buffer, Flow, PortBe, reply, v4_part};
use shunt_shmlayout::address::Protocol;
use shunt_shmlayout::address::{Address, Mac};
use shunt_shmlayout::config_table::BackendRecord;
use shunt_shmlayout::connections::{Activity, Found, State};
use shunt_shmlayout::drop_reason::DropReason;
use shunt_shmlayout::mode::Mode;
use shunt_shmlayout::service::{OnBackendDown, ServiceView};

/// Address and port.
type End = (Address, PortBe);

impl Filter {
    /// Decides about a client's packet to a backend with [`BackendRecord::STALE`]; `None` if it is forwarded all the same.
    #[cold]
    pub(super) fn pass_stale(&mut self, frame: &mut Buffer<'_>, context: &Context, found: &Found) -> Option<Verdict> {
        let &Context { tables, metadata, now_ms, .. } = context;
        let connection = &found.connection;
        let stale = tables.stale(connection.service, connection.backend, now_ms)?;
        let (Some(service), Some(mode)) = (tables.service(connection.service), connection.mode.get()) else {
            return Some(Verdict::Drop(DropReason::BadTable));
        };
        if self.may_move(&service, found, &metadata.flow) {
            return match self.choose(tables, connection.service, metadata, now_ms) {
                Ok(choice) => Some(self.move_to(frame, context, found, choice)),
                Err(NoChoice::BadTable) => Some(Verdict::Drop(DropReason::BadTable)),
                // No other backend: forwarding to the old one can only help, as the checks may be wrong.
                Err(NoChoice::NoBackend) if stale.from_s == 0 => None,
                // Not a new connection of the service, which has counted it already.
                Err(NoChoice::NoBackend) => Some(self.refuse(frame, &metadata.flow, DropReason::NoBackend, now_ms)),
            };
        }
        is_reset(&service, &metadata.flow).then(|| self.reset_from_client(frame, context, found, mode, &service))
    }

    /// Decides about a backend's packet of a service that resets stale connections; `None` if it is forwarded all the same.
    #[cold]
    pub(super) fn return_stale(&mut self, frame: &mut [u8], context: &Context, found: &Found) -> Option<Verdict> {
        let tables = context.tables;
        let connection = &found.connection;
        // Read again: a reference to the caller's copy would force every reply to store the whole record on the stack.
        let (Some(service), Some(backend)) = (tables.service(connection.service), tables.backend(connection.backend))
        else {
            return Some(Verdict::Drop(DropReason::BadTable));
        };
        if backend.flags & BackendRecord::STALE == 0 || !is_reset(&service, context.flow()) {
            return None;
        }
        tables.stale(connection.service, connection.backend, context.now_ms)?;
        let Some(hop) = self.owner.table().last_hop(found) else {
            return Some(Verdict::Drop(DropReason::NoConnection));
        };
        let (out, mac) = match self.way_to_client(tables, &connection.client, hop) {
            Ok(way) => way,
            Err(reason) => return Some(Verdict::Drop(reason)),
        };
        let from = (service.address, service.port);
        let told = self.tell_receiver(frame, context, found, Sender::Backend, from);
        Some(match told {
            Some(length) if is_host(hop.interface) => Verdict::ToHost(length),
            Some(length) => self.leave(frame, out, mac, length),
            None => self.tell_sender(frame, context, found, Sender::Backend),
        })
    }

    /// UDP flows move if the service says so. So does a TCP connection whose SYN is unanswered: it has no state to lose.
    fn may_move(&self, service: &ServiceView, found: &Found, flow: &Flow) -> bool {
        match (service.protocol, service.on_backend_down) {
            (Protocol::Udp, OnBackendDown::Move) => true,
            (Protocol::Udp, OnBackendDown::Keep | OnBackendDown::Reset) => false,
            (Protocol::Tcp, OnBackendDown::Keep | OnBackendDown::Move | OnBackendDown::Reset) => {
                let activity = self.owner.table().activity(found);
                let is_unanswered = activity.state == State::Opening && activity.flags & Activity::ANSWERED == 0;
                is_unanswered && begins(flow.tcp_flags)
            }
        }
    }

    /// Ends a connection and opens it anew at the backend that was chosen. Several switchers may do so at once: they end up
    /// with one new connection, and the one that ended the old one counts the move.
    fn move_to(&mut self, frame: &mut Buffer<'_>, context: &Context, found: &Found, choice: Choice) -> Verdict {
        let is_ours = self.end(found);
        self.owner.table().unlink(found);
        let opened = self.open(frame, context, choice);
        if is_ours && opened.is_ok() {
            self.count(found, |counters| &counters.moved);
        }
        self.begin(frame, context, opened)
    }

    fn reset_from_client(
        &mut self,
        frame: &mut [u8],
        context: &Context,
        found: &Found,
        mode: Mode,
        service: &ServiceView,
    ) -> Verdict {
        let way = context.tables.backend(found.connection.backend).and_then(|backend| {
            let mac: Mac = self.backend_mac(&backend).ok()?;
            Some((backend, mac))
        });
        let told = way.and_then(|(backend, mac)| {
            let to = mode::end_at_backend(mode, service, &backend);
            let length = self.tell_receiver(frame, context, found, Sender::Client, to)?;
            Some(self.leave(frame, backend.interface, mac, length))
        });
        told.unwrap_or_else(|| self.tell_sender(frame, context, found, Sender::Client))
    }

    /// Makes a segment with data the reset for its receiver, if that had none yet. `end` is what is translated: where a
    /// client's segment goes, where a backend's comes from. Returns the frame's new length.
    fn tell_receiver(
        &mut self,
        frame: &mut [u8],
        context: &Context,
        found: &Found,
        sender: Sender,
        end: End,
    ) -> Option<usize> {
        let flow = context.flow();
        let told = if sender == Sender::Client { Activity::BACKEND_RESET } else { Activity::CLIENT_RESET };
        if flow.payload_length == 0 || self.owner.table().activity(found).flags & told != 0 {
            return None;
        }
        let (source, destination) = match sender {
            Sender::Client => ((flow.source, flow.source_port), end),
            Sender::Backend => (end, (flow.destination, flow.destination_port)),
        };
        let v4 = |(address, port): End| (v4_part(address), port);
        let length = reply::tcp_reset_onward(frame, flow, v4(source), v4(destination))?;
        self.note_reset(found, told, context.now_ms);
        self.region.head.refused[DropReason::StaleBackend as usize].add(1);
        Some(length)
    }

    fn tell_sender(&mut self, frame: &mut [u8], context: &Context, found: &Found, sender: Sender) -> Verdict {
        let told = if sender == Sender::Client { Activity::CLIENT_RESET } else { Activity::BACKEND_RESET };
        let verdict = self.refuse(frame, context.flow(), DropReason::StaleBackend, context.now_ms);
        if matches!(verdict, Verdict::Reply(_)) {
            self.note_reset(found, told, context.now_ms);
        }
        verdict
    }

    /// The connection is over; its entry stays for as long as a closed one, so that the other end gets its reset, too.
    fn note_reset(&self, found: &Found, told: u8, now_ms: u64) {
        let next = |before: Activity| {
            let flags = before.flags | Activity::ENDED | told;
            Activity { last_seen_ms: now_ms, state: State::Closed, flags }
        };
        if self.owner.table().advance(found, next) {
            self.count_end(found);
            self.count(found, |counters| &counters.reset);
        }
    }

    /// Counts a connection as no longer in flight, once. Exactly one switcher gets true.
    fn end(&self, found: &Found) -> bool {
        let next = |before: Activity| Activity { flags: before.flags | Activity::ENDED, ..before };
        let is_ours = self.owner.table().advance(found, next);
        if is_ours {
            self.count_end(found);
        }
        is_ours
    }
}

/// Whether a stale connection's segment is answered by resets: not if it is a reset itself.
fn is_reset(service: &ServiceView, flow: &Flow) -> bool {
    match service.protocol {
        Protocol::Tcp => resets_stale(service.on_backend_down) && flow.tcp_flags & RST == 0,
        Protocol::Udp => false,
    }
}
