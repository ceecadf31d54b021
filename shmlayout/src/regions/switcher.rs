//! The region that one switcher writes: heartbeat, epoch in use, counters, what the frame pool needs to survive it.
//! Control and `shunt` read it; a successor of the switcher goes on with it.

use super::Typed;
use crate::address::BackendId;
use crate::drop_reason::DROP_REASONS;
use crate::header::{Kind, layout_hash};
use crate::map::Parts;
use crate::notice::NOTICES;
use crate::record::{Counter, Record};
use crate::ring::{Ring, RingHead};
use crate::sync::{AtomicU8, AtomicU32, AtomicU64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Ports that a switcher can have.
pub const PORTS: usize = 64;
/// Journal words: a transmit and a fill ring for each port.
pub const RINGS: usize = 2 * PORTS;
/// Cells of the ring of wanted neighbours.
const WANTED: usize = 256;

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

/// What is one for a switcher.
#[repr(C, align(64))]
#[derive(FromBytes, IntoBytes, KnownLayout)]
pub struct SwitcherHead {
    /// The flip's word of this switcher (`flip.rs`).
    pub in_use: AtomicU64,
    /// Process id.
    pub pid: Counter,
    /// When that process started.
    pub start_time: Counter,
    /// CLOCK_MONOTONIC in milliseconds, at the last turn.
    pub heartbeat_ms: Counter,
    /// Turns of the engine.
    pub turns: Counter,
    /// Turns in which nothing was received.
    pub idle_turns: Counter,
    /// Frames taken from receive queues.
    pub received: Counter,
    /// Frames placed into transmit queues, answers included.
    pub sent: Counter,
    /// Frames that the kernel has too and that weren't Shunt's (AF_PACKET).
    pub passed: Counter,
    /// Answers made here: resets, ARP, echo. They are among `sent`.
    pub answered: Counter,
    /// Connections taken out of the table because it was full.
    pub evicted: Counter,
    /// Processes that have had this region.
    pub generation: Counter,
    /// Refusals without an answer, because the limit for their source didn't allow one. They are among `drops`.
    pub unanswered: Counter,
    _apart: [Counter; 3],
    /// Frames dropped, by [`crate::drop_reason::DropReason`].
    pub drops: [Counter; DROP_REASONS],
    _end: [Counter; DROP_REASONS.next_multiple_of(8) - DROP_REASONS],
    /// Frames refused by a reset or an ICMP error, by [`crate::drop_reason::DropReason`]. They are among `sent`.
    pub refused: [Counter; DROP_REASONS],
    _end_refused: [Counter; DROP_REASONS.next_multiple_of(8) - DROP_REASONS],
    /// Packets that went on, by [`crate::notice::Notice`].
    pub notices: [Counter; NOTICES],
    _end_notices: [Counter; NOTICES.next_multiple_of(8) - NOTICES],
}

/// Traffic of one service.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout)]
pub struct ServiceCounters {
    /// Connections recorded.
    pub connections: Counter,
    /// Packets from clients.
    pub packets_in: Counter,
    /// Their bytes.
    pub bytes_in: Counter,
    /// Packets to clients.
    pub packets_out: Counter,
    /// Their bytes.
    pub bytes_out: Counter,
    /// New connections that no backend could take.
    pub refused: Counter,
    /// Connections that went to another backend, because their own was down, or drained for too long.
    pub moved: Counter,
    /// Connections that were reset for the same reason.
    pub reset: Counter,
}

/// Traffic of one backend.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout)]
pub struct BackendCounters {
    /// Connections recorded by this switcher.
    pub opened: Counter,
    /// Connections freed by this switcher; the sums over all switchers differ by those that live.
    pub closed: Counter,
    /// Packets to it.
    pub packets: Counter,
    /// Their bytes.
    pub bytes: Counter,
}

/// Traffic of one interface, as seen by this switcher.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout)]
pub struct InterfaceCounters {
    /// Frames received.
    pub received: Counter,
    /// Their bytes.
    pub bytes_received: Counter,
    /// Frames sent.
    pub sent: Counter,
    /// Their bytes.
    pub bytes_sent: Counter,
    /// Frames that the kernel dropped because the receive ring was full or empty of buffers, or the frame too long.
    pub missed: Counter,
    /// Failed attempts to make the kernel send.
    pub errors: Counter,
    /// When a packet with an unfilled checksum last came in, CLOCK_MONOTONIC in milliseconds; 0 if none did.
    pub unfilled_ms: Counter,
}

/// What a switcher last counted of the kernel's own counts of a socket, which outlive the switcher. Its successor adds what
/// came since.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout)]
pub struct SocketReading {
    /// The kernel's cookie of the socket (SO_COOKIE), never used twice; 0: no reading.
    pub cookie: Counter,
    /// Packets lost because the receive ring was full.
    pub ring_full: Counter,
    /// Packets lost because there was no free frame.
    pub no_frame: Counter,
    /// Packets and descriptors refused, at most so far: what the kernel says of them may fall.
    pub invalid: Counter,
}

/// A next hop whose Ethernet address a switcher needs; control asks the kernel to resolve it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Wanted {
    /// The next hop.
    pub address: crate::address::Address,
    /// The interface it is behind.
    pub interface: u64,
    /// Room for a later field.
    pub reserved: u64,
}

/// A view of a switcher's region.
#[derive(Clone, Copy)]
pub struct SwitcherRegion {
    /// What is one for a switcher.
    pub head: &'static SwitcherHead,
    /// By service id.
    pub services: &'static [ServiceCounters],
    /// By backend id.
    pub backends: &'static [BackendCounters],
    /// By backend id: connections that this switcher recorded, less those whose end it saw (their first FIN or RST, or
    /// their expiry without one); wraps, for another switcher may see the end. The sum over all switchers is the
    /// number in flight. Apart from the packets' counters: other switchers read it, and it changes seldom.
    pub in_flight: &'static [Counter],
    /// By backend id: when a packet of a connection that the backend had not answered yet last came from it,
    /// CLOCK_MONOTONIC in milliseconds; 0 if none did. With `dsr` none does.
    pub answered_ms: &'static [Counter],
    /// By interface id.
    pub interfaces: &'static [InterfaceCounters],
    /// [`Wanted`], from the switcher to control.
    pub wanted: Ring<'static, 4>,
    /// Who has each frame of the pool.
    pub frame_owners: &'static [AtomicU8],
    /// By ring: where the burst began that is being published.
    pub journal: &'static [AtomicU32],
    /// By port.
    pub sockets: &'static [SocketReading],
}

/// Connections in flight to a backend: the sum of all switchers' [`SwitcherRegion::in_flight`]. One's alone may be below
/// nothing, because it saw ends of connections that others recorded; so may the sum, read while it changes.
pub fn connections_in_flight(counts: impl IntoIterator<Item = &'static [Counter]>, backend: BackendId) -> u64 {
    let counts = counts.into_iter().filter_map(|counts| counts.get(usize::from(backend.0)));
    let sum = counts.fold(0u64, |sum, count| sum.wrapping_add(count.get())).cast_signed();
    sum.max(0).cast_unsigned()
}

impl Typed for SwitcherRegion {
    const KIND: Kind = Kind::Switcher;
    const HASH: u64 = layout_hash(&[
        size_of::<SwitcherHead>(),
        DROP_REASONS,
        NOTICES,
        size_of::<ServiceCounters>(),
        size_of::<BackendCounters>(),
        size_of::<Counter>(), // in_flight
        size_of::<Counter>(), // answered_ms
        size_of::<InterfaceCounters>(),
        size_of::<Wanted>(),
        WANTED,
        RINGS,
        size_of::<SocketReading>(),
    ]);
    type Shape = SwitcherShape;

    fn carve(parts: &mut Parts, shape: &SwitcherShape) -> Option<Self> {
        let head = parts.one();
        let services = parts.take(shape.services as usize);
        let backends = parts.take(shape.backends as usize);
        let in_flight = parts.take(shape.backends as usize);
        let answered_ms = parts.take(shape.backends as usize);
        let interfaces = parts.take(shape.interfaces as usize);
        let ends = parts.one::<RingHead>();
        let cells = parts.take::<Record<4>>(WANTED);
        let frame_owners = parts.take(shape.frames as usize);
        let journal = parts.take(RINGS);
        let sockets = parts.take(PORTS);
        let wanted = Ring::new(ends?, cells)?;
        Some(Self {
            head: head?,
            services,
            backends,
            in_flight,
            answered_ms,
            interfaces,
            wanted,
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
