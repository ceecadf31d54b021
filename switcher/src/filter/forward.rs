//! Re-writing and the way out: patent Fig. 6 steps 216 and 220, "re-writes the MAC address and optionally re-writes the IP
//! address and TCP/UDP port number".

use super::host::is_host;
use super::tcp_state::Sender;
use super::{Context, Filter, Verdict, mode};
use shunt_packet::{Address, Buffer, rewrite};
use shunt_shmlayout::address::{BackendId, InterfaceId, Mac, NeighbourId};
use shunt_shmlayout::config_table::{BackendRecord, FibRoute, Generation};
use shunt_shmlayout::connections::{Activity, Found, LastHop};
use shunt_shmlayout::drop_reason::DropReason;
use shunt_shmlayout::regions::ResolveRequest;
use shunt_shmlayout::service::{BackendView, OnBackendDown};

/// How exact `last_seen_ms` is kept.
pub(super) const LAST_SEEN_GRAIN_MS: u64 = 256;

/// Where a received frame came from.
#[inline]
pub(super) fn last_hop(frame: &[u8], interface: InterfaceId) -> LastHop {
    let mac = frame.get(6..12).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
    LastHop { mac, interface }
}

impl Filter {
    /// A client's packet of an existing connection: to the connection's own backend, unless it is stale.
    #[inline]
    pub(super) fn pass_to_backend(&mut self, frame: &mut Buffer<'_>, context: &Context, found: &Found) -> Verdict {
        let Some(backend) = context.tables.backend(found.connection.backend) else {
            return Verdict::Drop(DropReason::BadTable);
        };
        if backend.flags & BackendRecord::STALE != 0
            && let Some(verdict) = self.pass_stale(frame, context, found)
        {
            return verdict;
        }
        self.send_to_backend(frame, context, found, &backend)
    }

    /// A client's packet to the connection's backend.
    #[inline]
    pub(super) fn send_to_backend(
        &mut self,
        frame: &mut Buffer<'_>,
        context: &Context,
        found: &Found,
        backend: &BackendView,
    ) -> Verdict {
        let (connection, flow) = (&found.connection, context.flow());
        let Some(mode) = connection.mode.get() else { return Verdict::Drop(DropReason::BadTable) };
        if mode.traits().routes && flow.ttl <= 1 {
            return self.answer_exceeded(frame, flow, context.now_ms);
        }
        let mac = match self.backend_mac(backend) {
            Ok(mac) => mac,
            Err(reason) => return Verdict::Drop(reason),
        };
        self.touch(found, mode, context, Sender::Client);
        self.note_last_hop(found, last_hop(frame, context.interface));
        let sent = mode::rewrite_to_backend(mode, frame, flow, backend);
        let length = usize::from(flow.end);
        if let Some(counters) = self.region.services.get(usize::from(connection.service.0)) {
            counters.packets_in.add(1);
            counters.bytes_in.add(length as u64);
        }
        if let Some(counters) = self.region.backends.get(usize::from(connection.backend.0)) {
            counters.packets.add(1);
            counters.bytes.add(length as u64);
        }
        self.leave(frame, backend.interface, mac, sent)
    }

    /// A backend's packet to the client, if its mode has replies come this way.
    #[inline]
    pub(super) fn send_to_client(&mut self, frame: &mut [u8], context: &Context, found: &Found) -> Verdict {
        let &Context { tables, metadata, interface, now_ms } = context;
        let (connection, flow) = (&found.connection, &metadata.flow);
        let Some(mode) = connection.mode.get() else { return Verdict::Drop(DropReason::BadTable) };
        if !mode.sees_replies() {
            return Verdict::NotOurs;
        }
        let Some(service) = tables.service(connection.service) else { return Verdict::Drop(DropReason::BadTable) };
        if mode.traits().routes && flow.ttl <= 1 {
            return Verdict::Drop(DropReason::TtlExceeded);
        }
        if resets_stale(service.on_backend_down)
            && let Some(verdict) = self.return_stale(frame, context, found)
        {
            return verdict;
        }
        let is_answered = self.owner.table().activity(found).flags & Activity::ANSWERED != 0;
        if !is_answered {
            self.note_answer(connection.backend, now_ms);
            if self.has_unfilled_checksum(frame, flow, interface, now_ms) {
                return Verdict::Drop(DropReason::ChecksumUnfilled);
            }
        }
        self.touch(found, mode, context, Sender::Backend);
        mode::rewrite_to_client(mode, frame, flow, &service);
        let Some(hop) = self.owner.table().last_hop(found) else { return Verdict::Drop(DropReason::NoConnection) };
        let length = usize::from(flow.end);
        if let Some(counters) = self.region.services.get(usize::from(connection.service.0)) {
            counters.packets_out.add(1);
            counters.bytes_out.add(length as u64);
        }
        if is_host(hop.interface) {
            return Verdict::ToHost(length);
        }
        match self.way_to_client(tables, &connection.client, hop) {
            Ok((interface, mac)) => self.leave(frame, interface, mac, length),
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// Records that a backend's replies come through Shunt, even those that are dropped.
    #[inline]
    fn note_answer(&self, backend: BackendId, now_ms: u64) {
        if let Some(answered_ms) = self.region.answered_ms.get(usize::from(backend.0)) {
            answered_ms.set(now_ms);
        }
    }

    /// The Ethernet address of the next hop to a backend.
    #[inline]
    pub(super) fn backend_mac(&self, backend: &BackendView) -> Result<Mac, DropReason> {
        let next_hop = backend.neighbour;
        self.neighbours.mac(next_hop).ok_or_else(|| {
            let unresolved = next_hop != NeighbourId::NONE;
            if unresolved { DropReason::Unresolved } else { DropReason::NoRoute }
        })
    }

    /// Records where a client's packet came from. A connection that the host opened stays the host's, even if another machine uses
    /// its address.
    #[inline]
    fn note_last_hop(&self, found: &Found, hop: LastHop) {
        let gives_way = |held: LastHop| !is_host(held.interface) || is_host(hop.interface);
        self.owner.table().set_last_hop(found, hop, gives_way);
    }

    /// The next hop to a client, by routing table and ARP cache; while they don't know it, where its last packet came from.
    #[inline]
    pub(super) fn way_to_client(
        &mut self,
        tables: &Generation,
        client: &Address,
        hop: LastHop,
    ) -> Result<(InterfaceId, Mac), DropReason> {
        let known = match tables.route(client) {
            Some(FibRoute::Gateway(interface, gateway)) => self.neighbours.mac(gateway).map(|mac| (interface, mac)),
            Some(FibRoute::OnLink(interface)) => {
                let mac = self.neighbours.mac_of(interface, client);
                if mac.is_none() && hop.interface == interface {
                    self.want(interface, client);
                }
                mac.map(|mac| (interface, mac))
            }
            Some(FibRoute::Unknown) => return Err(DropReason::BadTable),
            None => None,
        };
        Ok(known.unwrap_or((hop.interface, Mac(hop.mac))))
    }

    /// Requests the resolution of a next hop from control; a full ring is harmless, because the next packet asks again.
    #[cold]
    pub(super) fn want(&mut self, interface: InterfaceId, address: &Address) {
        self.requests.push(&ResolveRequest { address: *address, interface: interface.0.into(), reserved: 0 });
    }

    #[inline]
    pub(super) fn leave(&self, frame: &mut [u8], interface: InterfaceId, to: Mac, length: usize) -> Verdict {
        let Some(out) = self.interfaces.get(usize::from(interface.0)) else {
            return Verdict::Drop(DropReason::BadTable);
        };
        rewrite::set_ethernet(frame, &to.0, &out.mac);
        Verdict::Forward(interface, length)
    }
}

/// Whether stale connections of the service are reset.
#[inline]
pub(super) const fn resets_stale(on_backend_down: OnBackendDown) -> bool {
    match on_backend_down {
        OnBackendDown::Reset => true,
        OnBackendDown::Keep | OnBackendDown::Move => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{B1, BACKENDS, CLIENTS, SERVICE, three_services, through};
    use super::super::tests::CLIENT;
    use super::*;
    use shunt_packet::tcp::{ACK, RST, SYN};
    use shunt_packet::testing::tcp;

    /// What a backend sends on a connection that it has answered already says nothing new.
    #[test]
    fn the_first_answer_of_each_connection_is_noted_by_backend_a_reset_too() {
        for answer in [SYN | ACK, RST | ACK] {
            let (world, _) = three_services();
            let mut filter = world.filter(0);
            let answered = || world.switcher.answered_ms.iter().map(|at| at.get()).collect::<Vec<_>>();
            assert!(matches!(through(&mut filter, tcp(CLIENT, SERVICE, SYN).build(), CLIENTS).0, Verdict::Forward(..)));
            assert!(answered().iter().all(|at_ms| *at_ms == 0), "{:?}", answered());
            assert!(matches!(through(&mut filter, tcp(B1, CLIENT, answer).build(), BACKENDS).0, Verdict::Forward(..)));
            assert_eq!(answered().iter().filter(|at_ms| **at_ms != 0).collect::<Vec<_>>(), [&1000]);
        }
    }
}
