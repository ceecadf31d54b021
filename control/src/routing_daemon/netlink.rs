//! Netlink sockets: dump the kernel's network state, follow its changes, and request neighbour resolution.
//!
//! Two sockets. `events` subscribes before the first dump, so that no change is missed; a change that precedes a dump but
//! is received after it is applied again, which is harmless. `requests` is synchronous: the kernel answers before the call
//! returns, so reading does not block. Owned by control's main loop.
#![allow(unsafe_code)]

use std::io;
use std::net::IpAddr;

use log::{debug, warn};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use shunt_netlink::DATAGRAM_BYTES;
use shunt_routing::decode;
use shunt_routing::error::NetlinkError;
use shunt_routing::event::{Event, Neighbour, NeighbourKey, NeighbourState};
use shunt_routing::requests::Requests;
use shunt_routing::state::{Changes, State};
use tokio::io::unix::AsyncFd;

/// Event buffer for the time that control is busy; about 10,000 events.
pub const EVENT_BUFFER_BYTES: usize = 4 << 20;
/// Limit of datagrams before the caller gets the changes.
const MAX_BATCH: usize = 1_024;
// Multicast groups (RTNLGRP_*) of linux/rtnetlink.h.
const GROUPS: [(u32, &str); 6] = [
    (1, "links"),
    (3, "neighbours"),
    (5, "IPv4 addresses"),
    (7, "IPv4 routes"),
    (9, "IPv6 addresses"),
    (11, "IPv6 routes"),
];

/// Keeps a [`State`] synchronised with the kernel's.
pub struct Follower {
    events: AsyncFd<Socket>,
    requests: Requests,
    state: State,
    buffer: Vec<u8>,
    unanswered: Vec<IpAddr>,
}

/// Limit of remembered neighbours that did not answer.
const UNANSWERED: usize = 1024;

impl Follower {
    /// Subscribes and dumps. `event_buffer_bytes` is the kernel's queue limit, usually [`EVENT_BUFFER_BYTES`]. Needs a
    /// tokio runtime with I/O.
    pub fn start(event_buffer_bytes: usize) -> Result<Self, NetlinkError> {
        let events = shunt_netlink::open(NETLINK_ROUTE).map_err(NetlinkError::Open)?;
        events.set_non_blocking(true).map_err(NetlinkError::Open)?;
        shunt_netlink::enlarge(&events, event_buffer_bytes).map_err(NetlinkError::Open)?;
        for (group, what) in GROUPS {
            events.add_membership(group).map_err(|source| NetlinkError::Subscribe { what, source })?;
        }
        let mut requests = Requests::open()?;
        let state = requests.dump_all()?;
        let (buffer, unanswered) = (vec![0; DATAGRAM_BYTES], Vec::new());
        Ok(Self { events: register(events)?, requests, state, buffer, unanswered })
    }

    /// The current state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The neighbours that did not answer the kernel since the last call, once per attempt.
    pub fn take_unanswered(&mut self) -> Vec<IpAddr> {
        std::mem::take(&mut self.unanswered)
    }

    /// Waits for changes and returns the changed parts. Cancel-safe.
    pub async fn changed(&mut self) -> Result<Changes, NetlinkError> {
        loop {
            let mut ready = self.events.readable().await?;
            let unanswered = &mut self.unanswered;
            let batch = take_events(ready.get_inner(), &mut self.buffer, |event| {
                if unanswered.len() < UNANSWERED {
                    unanswered.extend(unanswered_in(&event));
                }
                self.state.apply(event)
            })?;
            if batch.drained {
                ready.clear_ready();
            }
            let changes = self.repair(&batch)?;
            if changes.any() {
                return Ok(changes);
            }
        }
    }

    /// Makes the kernel resolve or confirm a neighbour. The result arrives as an event; an error concerns this neighbour
    /// only (its link is gone or down).
    pub fn resolve(&mut self, key: NeighbourKey) -> Result<(), NetlinkError> {
        self.requests.resolve(key)
    }

    /// Dumps again what events alone cannot convey.
    fn repair(&mut self, batch: &Batch) -> Result<Changes, NetlinkError> {
        let mut changes = batch.changes;
        if batch.overrun || self.state.is_incomplete {
            if batch.overrun {
                warn!("network changes came faster than they were read; reading all again");
            }
            // Whatever interrupted a dump is also an event, since the subscription precedes the dump.
            self.state = self.requests.dump_all()?;
            changes = Changes { links: true, addresses: true, routes: true, neighbours: true };
        } else if self.state.routes_stale {
            let fresh = self.requests.dump_routes()?;
            changes.routes |= fresh.routes != self.state.routes;
            self.state.routes = fresh.routes;
            self.state.routes_stale = fresh.routes_stale;
        }
        Ok(changes)
    }
}

/// The result of one read of the event socket.
#[derive(Default)]
struct Batch {
    changes: Changes,
    /// The socket is empty.
    drained: bool,
    /// Events were lost: the kernel's buffer overflowed (ENOBUFS), or this buffer was too small (EMSGSIZE).
    overrun: bool,
}

/// The neighbour that did not answer, if the event reports one.
fn unanswered_in(event: &Event) -> Option<IpAddr> {
    match event {
        Event::Neighbour(Neighbour { key, state: NeighbourState::Failed, .. }) => Some(key.address),
        _ => None,
    }
}

/// Registers a socket with tokio, so that its readiness can be awaited.
fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: `Socket` owns its descriptor, gives the same one out each time, and closes it only when dropped, which
    // the AsyncFd that takes it does after deregistering it.
    Ok(unsafe { AsyncFd::register(socket) }?)
}

fn take_events(
    events: &Socket,
    buffer: &mut [u8],
    mut apply: impl FnMut(Event) -> Changes,
) -> Result<Batch, NetlinkError> {
    let mut batch = Batch::default();
    for _ in 0..MAX_BATCH {
        match shunt_netlink::receive(events, buffer) {
            Ok(datagram) => {
                shunt_netlink::for_each_message(datagram, |message: NetlinkMessage<RouteNetlinkMessage>| {
                    let NetlinkPayload::InnerMessage(inner) = &message.payload else { return };
                    if let Some(event) = decode::event(inner, message.header.flags) {
                        debug!("{event:?}");
                        batch.changes.merge(apply(event));
                    }
                })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                batch.drained = true;
                break;
            }
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOBUFS | Errno::EMSGSIZE) => batch.overrun = true,
                Some(Errno::EINTR) => {}
                _ => return Err(error.into()),
            },
        }
    }
    Ok(batch)
}
