//! A configuration as the processes see it: checked, and with every default filled in.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use crate::cpus::Cpus;
use crate::feedback::{AgentCheck, Algorithm, Feedback, Rule};
use crate::source::Source;
use shunt_process::Instance;
use shunt_protocol::idle::Idle;

/// Largest IP packet of an interface, in bytes: a frame of the pool holds it beside headroom, Ethernet header and two VLAN
/// tags.
pub const MTU_MAX: u32 = 1770;

/// One whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where it was read.
    pub source: Source,
    /// Which instance it is for.
    pub instance: Instance,
    /// The account that switchers become.
    pub user: String,
    /// The switchers.
    pub switchers: Switchers,
    /// At least one.
    pub interfaces: Vec<Interface>,
    /// The pseudo-interface by which the box's own programs are reached, if there is one.
    pub host: Option<Host>,
    /// Sizes of the shared memory.
    pub limits: Limits,
    /// Times of connections in services that say nothing else.
    pub timeouts: Timeouts,
    /// Reports of load, and what they may do.
    pub feedback: Feedback,
    /// The services, in the order of the file.
    pub services: Vec<Service>,
}

/// How many switchers, where, and how they wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switchers {
    /// One switcher for each.
    pub cpus: Cpus,
    /// What a switcher does on an empty turn.
    pub idle: Idle,
}

/// A network interface whose queues switchers poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the kernel.
    pub name: String,
    /// Who is reached through it.
    pub side: Side,
    /// How its frames are reached.
    pub port: PortKind,
    /// How AF_XDP is bound; `Auto` for AF_PACKET.
    pub mode: XdpMode,
    /// Whether a switcher fetches an AF_XDP queue's packets itself, on its own CPU, instead of leaving that to interrupts.
    pub busy_poll: bool,
    /// Queue to switcher number, where the operator says it; empty: all automatic.
    pub queues: BTreeMap<u32, u32>,
}

/// Who is reached through an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Clients.
    Client,
    /// Back-ends.
    Backend,
    /// Clients and back-ends.
    Both,
}

/// How the frames of an interface are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortKind {
    /// AF_XDP, or AF_PACKET where that can't be had.
    Auto,
    /// AF_XDP only.
    AfXdp,
    /// AF_PACKET only.
    AfPacket,
}

/// How AF_XDP is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// The first of the others that works.
    Auto,
    /// The driver writes into the frame pool.
    ZeroCopy,
    /// The program runs in the driver, the kernel copies.
    NativeCopy,
    /// The program runs after the driver, the kernel copies.
    GenericCopy,
}

/// The pseudo-interface: packets to and from the box's own programs. Fixed from the keeper's start on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The TUN device that it makes.
    pub device: String,
    /// Addresses that are wholly the box's, but for ports that services have there.
    pub addresses: Vec<Ipv4Addr>,
    /// Largest packet of the device; where it isn't said, that of the smallest interface.
    pub mtu: Option<u16>,
    /// Whether the kernel may hand over and take packets larger than that, and without checksums.
    pub offloads: bool,
    /// Destinations that the box's own programs reach through the switchers, whatever their source.
    pub routes: Vec<Prefix>,
}

/// A range of addresses: those that share the first `length` bits of `address`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// The first address.
    pub address: Ipv4Addr,
    /// 1 to 32.
    pub length: u8,
}

/// How much fits into the shared memory. Fixed from the keeper's start on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time.
    pub connections: u32,
    /// Services.
    pub services: u32,
    /// Back-ends, each address and protocol counted once.
    pub backends: u32,
    /// Slots of all services' tables together.
    pub slots: u32,
    /// Neighbours (ARP cache).
    pub neighbours: u32,
    /// Routes.
    pub routes: u32,
    /// Frames of 2048 bytes for each switcher; a power of two.
    pub frames: u32,
    /// Descriptors of each queue ring; a power of two.
    pub ring: u32,
    /// Packets in each direction between a switcher and the pseudo-interface; a power of two.
    pub store: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_000_000,
            services: 1024,
            backends: 4096,
            slots: 4_194_304,
            neighbours: 4096,
            routes: 16_384,
            frames: 16_384,
            ring: 256,
            store: 512,
        }
    }
}

/// Seconds without a packet after which a connection is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, until the handshake is complete.
    pub tcp_opening_s: u32,
    /// TCP, established.
    pub tcp_established_s: u32,
    /// TCP, after the first FIN.
    pub tcp_closing_s: u32,
    /// TCP, after both FINs or a reset.
    pub tcp_closed_s: u32,
    /// UDP.
    pub udp_s: u32,
}

impl Default for Timeouts {
    /// RFC 5382 REQ-5 (established 2 h 4 min, opening and closing 4 min) and RFC 4787 REQ-5 (UDP no less than 2 min).
    fn default() -> Self {
        Self { tcp_opening_s: 240, tcp_established_s: 7440, tcp_closing_s: 240, tcp_closed_s: 10, udp_s: 120 }
    }
}

/// What clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Unique among services.
    pub name: String,
    /// Where clients connect; with the protocol unique among services.
    pub address: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Who serves it.
    pub target: Target,
    /// How packets reach the back-ends; of no meaning where the target is the host.
    pub mode: Mode,
    /// Slots of its table, a prime; 0 where the target is the host.
    pub slots: u32,
    /// Times of its connections.
    pub timeouts: Timeouts,
    /// What becomes of connections whose back-end is down, or drained for longer than `drain_timeout_s`.
    pub on_backend_down: OnBackendDown,
    /// How long connections may go on at a back-end that was drained or removed.
    pub drain_timeout_s: u32,
    /// How its back-ends are checked, if they are.
    pub health: Option<Health>,
    /// How new connections are shared out.
    pub algorithm: Algorithm,
    /// Clients that go to certain back-ends only; the first that fits counts.
    pub rules: Vec<Rule>,
    /// How HAProxy's agents beside the back-ends are asked, if they are.
    pub agent_check: Option<AgentCheck>,
    /// At least one; none where the target is the host.
    pub backends: Vec<Backend>,
}

/// What becomes of connections whose back-end is down, or drained for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBackendDown {
    /// They stay with it.
    Keep,
    /// UDP: they go to another back-end.
    Move,
    /// TCP: they are reset at both ends.
    Reset,
}

/// Who serves a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Its back-ends.
    Backends,
    /// The box's own programs, through the pseudo-interface.
    Host,
}

/// Transport of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// How a service's packets reach its back-ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Address and port re-written both ways.
    Nat,
    /// Direct server return: only the MAC address re-written, replies bypass Shunt.
    Dsr,
}

impl Mode {
    /// Every mode with its word.
    pub const WORDS: [(&'static str, Self); 2] = [(Self::Nat.word(), Self::Nat), (Self::Dsr.word(), Self::Dsr)];

    /// The word that the configuration has for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::Dsr => "dsr",
        }
    }

    /// Whether clients' packets keep the service's address and port on their way to the backend.
    pub const fn keeps_destination(self) -> bool {
        match self {
            Self::Nat => false,
            Self::Dsr => true,
        }
    }
}

/// A server behind a service. The same address and protocol is the same back-end, and has the same name, in every service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// What `shunt drain` calls it.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share of new connections in this service, 0 to 256; 0 takes none.
    pub weight: u16,
    /// Requests that it works on at a time, the same in every service that says it; learnt or reported where none does.
    pub workers: Option<u32>,
}

/// How the back-ends of a service are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What is asked.
    pub probe: Probe,
    /// Port that is asked; the back-end's own where there is none.
    pub port: Option<u16>,
    /// Whether its packets take the way of a client's: with `dsr` to the service's address by the back-end's Ethernet
    /// address, with `nat` from the clients' side.
    pub as_client: bool,
    /// From one check to the next.
    pub interval_ms: u32,
    /// How long an answer may take; no more than the interval.
    pub timeout_ms: u32,
    /// Good checks in a row that bring a back-end up.
    pub rise: u32,
    /// Bad checks in a row that take it down.
    pub fall: u32,
}

/// What a health check asks of a back-end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// That it accepts a TCP connection.
    Tcp,
    /// That it answers an HTTP GET.
    Http {
        /// Target of the request, starting with `/`.
        path: String,
        /// Host header; the back-end's address where there is none.
        host: Option<String>,
        /// Lowest good status.
        status_first: u16,
        /// Highest good status.
        status_last: u16,
    },
}
