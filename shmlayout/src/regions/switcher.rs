//! The region that one switcher writes: heartbeat, epoch in use, counters, what the frame pool needs to survive it.
//! Control and `shunt` read it; a successor of the switcher goes on with it.

use super::{Typed, Whole, mapping};
use crate::access::{Access, Lends, Reader, Writer};
use crate::address::BackendId;
use crate::connections::{CountJournal, InFlight};
use crate::drop_reason::DROP_REASONS;
use crate::header::Kind;
use crate::layout::described;
use crate::map::{Mapping, Parts, lend, lend_one};
use crate::notice::NOTICES;
use crate::record::{Counter, Record};
use crate::ring::{Ring, RingHead};
use crate::word::{Word, Word8, Word32};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Ports that a switcher can have.
pub const PORTS: usize = 64;
/// Journal words: a transmit and a fill ring for each port.
pub const RINGS: usize = 2 * PORTS;
/// Cells of the ring of resolve requests.
const RESOLVE_REQUESTS: usize = 256;

/// Frames that a switcher may have received and not yet accounted for: a batch, and those that wait for a neighbour.
pub const FRAMES_IN_HAND: u64 = 128;

/// How much the region has room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct SwitcherShape {
    /// Services, as the control region's.
    pub services: u64,
    /// Backends, as the control region's.
    pub backends: u64,
    /// Interfaces, as the keeper region's.
    pub interfaces: u64,
    /// Frames of the switcher's pool.
    pub frames: u64,
    /// Room for later numbers.
    pub reserved: [u64; 4],
}

described!(SwitcherShape { services, backends, interfaces, frames, reserved });

/// What is one for a switcher.
#[repr(C, align(64))]
#[derive(FromBytes)]
pub struct SwitcherHead<A = Reader> {
    /// The flip's word of this switcher (`flip.rs`).
    pub in_use: Word<A>,
    /// Process id.
    pub pid: Counter<A>,
    /// When that process started.
    pub start_time: Counter<A>,
    /// CLOCK_MONOTONIC in milliseconds, at the last turn.
    pub heartbeat_ms: Counter<A>,
    /// Turns of the engine.
    pub turns: Counter<A>,
    /// Turns in which nothing was received.
    pub idle_turns: Counter<A>,
    /// Frames taken from receive queues.
    pub received: Counter<A>,
    /// Frames placed into transmit queues, answers included.
    pub sent: Counter<A>,
    /// Frames that the kernel has too and that weren't Shunt's (AF_PACKET).
    pub passed: Counter<A>,
    /// Answers made here: resets, ARP, echo. They are among `sent`.
    pub answered: Counter<A>,
    /// Connections taken out of the table because it was full.
    pub evicted: Counter<A>,
    /// Processes that have had this region.
    pub generation: Counter<A>,
    /// Refusals without an answer, because the limit for their source didn't allow one. They are among `drops`.
    pub unanswered: Counter<A>,
    /// What is being counted in [`SwitcherRegion::in_flight`].
    pub counting: CountJournal<A>,
    _apart: Counter<A>,
    /// Frames dropped, by [`crate::drop_reason::DropReason`].
    pub drops: [Counter<A>; DROP_REASONS],
    _end: [Counter<A>; DROP_REASONS.next_multiple_of(8) - DROP_REASONS],
    /// Frames refused by a reset or an ICMP error, by [`crate::drop_reason::DropReason`]. They are among `sent`.
    pub refused: [Counter<A>; DROP_REASONS],
    _end_refused: [Counter<A>; DROP_REASONS.next_multiple_of(8) - DROP_REASONS],
    /// Packets that went on, by [`crate::notice::Notice`].
    pub notices: [Counter<A>; NOTICES],
    _end_notices: [Counter<A>; NOTICES.next_multiple_of(8) - NOTICES],
}

described!(SwitcherHead<A> {
    in_use, pid, start_time, heartbeat_ms, turns, idle_turns, received, sent, passed, answered, evicted, generation,
    unanswered, counting, _apart, drops, _end, refused, _end_refused, notices, _end_notices,
});

/// Traffic of one service.
#[repr(C)]
#[derive(FromBytes)]
pub struct ServiceCounters<A = Reader> {
    /// Connections recorded.
    pub connections: Counter<A>,
    /// Packets from clients.
    pub packets_in: Counter<A>,
    /// Their bytes.
    pub bytes_in: Counter<A>,
    /// Packets to clients.
    pub packets_out: Counter<A>,
    /// Their bytes.
    pub bytes_out: Counter<A>,
    /// New connections that no backend could take.
    pub refused: Counter<A>,
    /// Connections that went to another backend, because their own was down, or drained for too long.
    pub moved: Counter<A>,
    /// Connections that were reset for the same reason.
    pub reset: Counter<A>,
}

described!(ServiceCounters<A> { connections, packets_in, bytes_in, packets_out, bytes_out, refused, moved, reset });

/// Traffic of one backend.
#[repr(C)]
#[derive(FromBytes)]
pub struct BackendCounters<A = Reader> {
    /// Connections recorded by this switcher.
    pub opened: Counter<A>,
    /// Connections freed by this switcher; the sums over all switchers differ by those that live.
    pub closed: Counter<A>,
    /// Packets to it.
    pub packets: Counter<A>,
    /// Their bytes.
    pub bytes: Counter<A>,
}

described!(BackendCounters<A> { opened, closed, packets, bytes });

/// Traffic of one interface, as seen by this switcher.
#[repr(C)]
#[derive(FromBytes)]
pub struct InterfaceCounters<A = Reader> {
    /// Frames received.
    pub received: Counter<A>,
    /// Their bytes.
    pub bytes_received: Counter<A>,
    /// Frames sent.
    pub sent: Counter<A>,
    /// Their bytes.
    pub bytes_sent: Counter<A>,
    /// Frames that the kernel dropped because the receive ring was full or empty of buffers, or the frame too long.
    pub missed: Counter<A>,
    /// Failed attempts to make the kernel send.
    pub errors: Counter<A>,
    /// When a packet with an unfilled checksum last came in, CLOCK_MONOTONIC in milliseconds; 0 if none did.
    pub unfilled_ms: Counter<A>,
}

described!(InterfaceCounters<A> { received, bytes_received, sent, bytes_sent, missed, errors, unfilled_ms });

/// What a switcher last counted of the kernel's own counts of a socket, which outlive the switcher. Its successor adds what
/// came since.
#[repr(C)]
#[derive(FromBytes)]
pub struct SocketReading<A = Reader> {
    /// The kernel's cookie of the socket (SO_COOKIE), never used twice; 0: no reading.
    pub cookie: Counter<A>,
    /// Packets lost because the receive ring was full.
    pub ring_full: Counter<A>,
    /// Packets lost because there was no free frame.
    pub no_frame: Counter<A>,
    /// Packets and descriptors refused, at most so far: what the kernel says of them may fall.
    pub invalid: Counter<A>,
}

described!(SocketReading<A> { cookie, ring_full, no_frame, invalid });

/// A next hop whose Ethernet address a switcher needs; control asks the kernel to resolve it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct ResolveRequest {
    /// The next hop.
    pub address: crate::address::Address,
    /// The interface it is behind.
    pub interface: u64,
    /// Room for a later field.
    pub reserved: u64,
}

described!(ResolveRequest { address, interface, reserved });

/// A view of a switcher's region, with the accesses of the switcher and of control, which takes from the ring of requests
/// neighbours: `SwitcherRegion<Writer>` is the switcher's, and `SwitcherRegion<Reader, Writer>` control's.
#[derive(Clone, Copy)]
pub struct SwitcherRegion<A: Access = Reader, C: Access = Reader> {
    /// What is one for a switcher.
    pub head: &'static SwitcherHead<A>,
    /// By service id.
    pub services: &'static [ServiceCounters<A>],
    /// By backend id.
    pub backends: &'static [BackendCounters<A>],
    /// By backend id: connections that this switcher recorded, less those whose end it saw (their first FIN or RST, or
    /// their expiry without one); wraps, for another switcher may see the end. The sum over all switchers is the
    /// number in flight. Apart from the packets' counters: other switchers read it, and it changes seldom.
    pub in_flight: &'static [Counter<A>],
    /// By backend id: when a packet of a connection that the backend had not answered yet last came from it,
    /// CLOCK_MONOTONIC in milliseconds; 0 if none did. With `dsr` none does.
    pub answered_ms: &'static [Counter<A>],
    /// By interface id.
    pub interfaces: &'static [InterfaceCounters<A>],
    /// From the switcher to control.
    pub resolve_requests: Ring<'static, ResolveRequest, 4, A, C>,
    /// Who has each frame of the pool.
    pub frame_owners: &'static [Word8<A>],
    /// By ring: where the burst began that is being published.
    pub journal: &'static [Word32<A>],
    /// By port.
    pub sockets: &'static [SocketReading<A>],
}

/// Connections in flight to a backend: the sum of all switchers' [`SwitcherRegion::in_flight`]. One's alone may be below
/// nothing, because it saw ends of connections that others recorded; so may the sum, read while it changes.
pub fn connections_in_flight<A: 'static>(
    counts: impl IntoIterator<Item = &'static [Counter<A>]>,
    backend: BackendId,
) -> u64 {
    let counts = counts.into_iter().filter_map(|counts| counts.get(usize::from(backend.0)));
    let sum = counts.fold(0u64, |sum, count| sum.wrapping_add(count.get())).cast_signed();
    sum.max(0).cast_unsigned()
}

impl<A: Access, C: Access> SwitcherRegion<A, C> {
    /// The same region with no more rights.
    pub fn lend<B: Access, D: Access>(&self) -> SwitcherRegion<B, D>
    where
        A: Lends<B>,
        C: Lends<D>,
    {
        SwitcherRegion {
            head: lend_one(self.head),
            services: lend(self.services),
            backends: lend(self.backends),
            in_flight: lend(self.in_flight),
            answered_ms: lend(self.answered_ms),
            interfaces: lend(self.interfaces),
            resolve_requests: self.resolve_requests.lend(),
            frame_owners: lend(self.frame_owners),
            journal: lend(self.journal),
            sockets: lend(self.sockets),
        }
    }
}

impl<C: Access> SwitcherRegion<Writer, C> {
    /// The switcher's counts of connections in flight, for the owner of its part of the connection table.
    pub fn counts_in_flight(&self) -> InFlight<'static> {
        InFlight::new(self.in_flight, &self.head.counting)
    }
}

impl Whole for SwitcherRegion<Writer, Writer> {}

impl<A: Access, C: Access> Typed for SwitcherRegion<A, C> {
    const KIND: Kind = Kind::Switcher;
    const MAPPING: Mapping = mapping(A::WRITES || C::WRITES);
    type Shape = SwitcherShape;

    fn carve(parts: &mut Parts, shape: &SwitcherShape) -> Option<Self> {
        let head = parts.one();
        let services = parts.take(shape.services as usize);
        let backends = parts.take(shape.backends as usize);
        let in_flight = parts.take(shape.backends as usize);
        let answered_ms = parts.take(shape.backends as usize);
        let interfaces = parts.take(shape.interfaces as usize);
        let ends = parts.one::<RingHead<A, C>>();
        let cells = parts.take::<Record<ResolveRequest, 4, A>>(RESOLVE_REQUESTS);
        let frame_owners = parts.take(shape.frames as usize);
        let journal = parts.take(RINGS);
        let sockets = parts.take(PORTS);
        let resolve_requests = Ring::new(ends?, cells)?;
        Some(Self {
            head: head?,
            services,
            backends,
            in_flight,
            answered_ms,
            interfaces,
            resolve_requests,
            frame_owners,
            journal,
            sockets,
        })
    }

    fn fault(shape: &SwitcherShape) -> Option<&'static str> {
        let over = |value: u64| value > 1 << 24;
        let services = over(shape.services).then_some("services");
        let others = over(shape.backends).then_some("backends").or(over(shape.interfaces).then_some("interfaces"));
        services.or(others).or(over(shape.frames).then_some("frames"))
    }
}
