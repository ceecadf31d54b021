//! Neighbours that switchers and the configuration need: control has the kernel resolve a few each turn.

use std::collections::VecDeque;
use std::net::IpAddr;

use shunt_shmlayout::address::InterfaceId;

use super::Control;
use super::outside::Turn;
use crate::routing_daemon::resolve::Resolver;
use shunt_publish::fib::Hop;
use shunt_routing::event::NeighbourKey;

/// Interval for consulting the resolver without a request.
const CONSULT_MS: u64 = 100;
/// Limit of requests per switcher and turn: the size of its ring.
const SWITCHER_REQUESTS: usize = 256;
/// Limit of requests to the kernel per turn; each takes about 20 us.
const KERNEL_REQUESTS: usize = 32;

/// Neighbours to resolve.
#[derive(Default)]
pub(super) struct Asking {
    resolver: Resolver,
    queue: VecDeque<NeighbourKey>,
    next_ms: u64,
}

impl Asking {
    /// Keeps these neighbours resolved.
    pub fn keep(&mut self, keys: impl Iterator<Item = NeighbourKey>) {
        self.resolver.keep(keys);
        self.next_ms = 0;
    }

    /// Returns true if requests are pending.
    pub fn is_busy(&self) -> bool {
        !self.queue.is_empty()
    }
}

impl Control {
    pub(super) fn ask_for_neighbours(&mut self, turn: &mut Turn<'_>) {
        let now_ms = turn.now.monotonic_ms;
        if self.take_requests(now_ms) || now_ms >= self.asking.next_ms {
            self.asking.next_ms = now_ms + CONSULT_MS;
            let due = self.asking.resolver.due(&turn.kernel.neighbours, now_ms);
            self.asking.queue.extend(due);
        }
        let batch = self.asking.queue.len().min(KERNEL_REQUESTS);
        turn.outputs.resolve.extend(self.asking.queue.drain(..batch));
    }

    /// A service address belongs to no host: the kernel resolves it only when a local program connects to it.
    pub(super) fn count_own_calls(&mut self, unanswered: &[IpAddr]) {
        let is_services = |address: &&IpAddr| {
            self.table
                .services()
                .any(|(_, service)| !service.is_removed() && service.identity.address == (**address).into())
        };
        self.memory.control.head.own_calls.add(unanswered.iter().filter(is_services).count() as u64);
    }

    /// Empties the switchers' rings. Returns true if there was a request.
    fn take_requests(&mut self, now_ms: u64) -> bool {
        let mut any = false;
        for switcher in &self.memory.switchers {
            let mut requests = switcher.resolve_requests.consumer();
            for wanted in (0..SWITCHER_REQUESTS).map_while(|_| requests.pop()) {
                let interface = u16::try_from(wanted.interface).map(InterfaceId);
                let hop = interface.map(|interface| Hop { interface, address: wanted.address });
                let Some(key) = hop.ok().and_then(|hop| self.interfaces.neighbour_key(&hop)) else { continue };
                if is_host(key.address) {
                    any |= self.asking.resolver.request(key, now_ms);
                }
            }
        }
        any
    }
}

/// The address comes from a packet.
fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || broadcast)
}
