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

/// A whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// File and positions that it was read from.
    pub source: Source,
    /// Name of the instance.
    pub instance: Instance,
    /// Account that switchers run as.
    pub user: String,
    /// The switchers.
    pub switchers: Switchers,
    /// At least one.
    pub interfaces: Vec<Interface>,
    /// The pseudo-interface for the box's own programs, if any.
    pub host: Option<Host>,
    /// Sizes of the shared memory.
    pub limits: Limits,
    /// Default connection timeouts of services.
    pub timeouts: Timeouts,
    /// Load reports and limits on their effect.
    pub feedback: Feedback,
    /// The services, in file order.
    pub services: Vec<Service>,
}

/// Number of switchers, their CPUs, and their idle mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switchers {
    /// One switcher per CPU.
    pub cpus: Cpus,
    /// What a switcher does when a turn finds no packet.
    pub idle: Idle,
}

/// A network interface whose queues switchers poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Kernel name.
    pub name: String,
    /// Whether it leads to clients, back-ends or both.
    pub side: Side,
    /// How its frames are received and sent.
    pub port: PortKind,
    /// AF_XDP bind mode; `Auto` for AF_PACKET.
    pub mode: XdpMode,
    /// Whether a switcher busy-polls an AF_XDP queue on its own CPU, instead of relying on interrupts.
    pub busy_poll: bool,
    /// Configured queue-to-switcher assignment; empty if all are automatic.
    pub queues: BTreeMap<u32, u32>,
}

/// Which peers an interface leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Clients.
    Client,
    /// Back-ends.
    Backend,
    /// Clients and back-ends.
    Both,
}

/// How an interface's frames are received and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortKind {
    /// AF_XDP, or AF_PACKET if AF_XDP is unavailable.
    Auto,
    /// AF_XDP only.
    AfXdp,
    /// AF_PACKET only.
    AfPacket,
}

/// AF_XDP bind mode.
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

/// The pseudo-interface: packets to and from the box's own programs. Fixed at the keeper's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Name of the TUN device.
    pub device: String,
    /// Addresses of the box, except for ports that services use there.
    pub addresses: Vec<Ipv4Addr>,
    /// MTU of the device; if not configured, that of the smallest interface.
    pub mtu: Option<u16>,
    /// Whether the kernel may exchange larger packets, and packets without checksums.
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

/// Capacity of the shared memory. Fixed at the keeper's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Concurrent connections.
    pub connections: u32,
    /// Services.
    pub services: u32,
    /// Back-ends; each address and protocol counts once.
    pub backends: u32,
    /// Total slots of all services' tables.
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

/// Idle timeouts of connections, in seconds.
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

/// An address and port that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Unique among services.
    pub name: String,
    /// Address for clients; unique together with the protocol.
    pub address: SocketAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Whether back-ends or the box's own programs serve it.
    pub target: Target,
    /// Forwarding mode; unused if the target is the host.
    pub mode: Mode,
    /// Slots of its table, a prime; 0 if the target is the host.
    pub slots: u32,
    /// Idle timeouts of its connections.
    pub timeouts: Timeouts,
    /// What happens to connections whose back-end is down, or drained for longer than `drain_timeout_s`.
    pub on_backend_down: OnBackendDown,
    /// Time limit for connections at a drained or removed back-end, in seconds.
    pub drain_timeout_s: u32,
    /// Health check of its back-ends, if any.
    pub health: Option<Health>,
    /// How new connections are distributed.
    pub algorithm: Algorithm,
    /// Rules for certain clients; the first match applies.
    pub rules: Vec<Rule>,
    /// Polling of HAProxy agent-check agents, if configured.
    pub agent_check: Option<AgentCheck>,
    /// At least one; empty if the target is the host.
    pub backends: Vec<Backend>,
}

/// What happens to connections whose back-end is down, or drained for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBackendDown {
    /// They stay with it.
    Keep,
    /// UDP: they move to another back-end.
    Move,
    /// TCP: they are reset at both ends.
    Reset,
}

/// What serves a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Its back-ends.
    Backends,
    /// The box's own programs, through the pseudo-interface.
    Host,
}

/// Transport protocol of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Forwarding mode of a service.
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
    /// Name, as in `shunt drain NAME`.
    pub name: String,
    /// Address and port that it listens on.
    pub address: SocketAddr,
    /// Relative share of new connections in this service, 0 to 256; 0 takes none.
    pub weight: u16,
    /// Number of concurrent requests, the same in every service that configures it; learnt or reported otherwise.
    pub workers: Option<u32>,
}

/// How the back-ends of a service are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What is requested.
    pub probe: Probe,
    /// Port to check; `None` for the back-end's own.
    pub port: Option<u16>,
    /// Whether its packets take the path of a client's: with `dsr` to the service's address through the back-end's Ethernet
    /// address, with `nat` from the clients' side.
    pub as_client: bool,
    /// Interval between checks.
    pub interval_ms: u32,
    /// Timeout of a check; at most the interval.
    pub timeout_ms: u32,
    /// Consecutive successes that bring a back-end up.
    pub rise: u32,
    /// Consecutive failures that take it down.
    pub fall: u32,
}

/// What a health check requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// That it accepts a TCP connection.
    Tcp,
    /// That it answers an HTTP GET.
    Http {
        /// Target of the request, starting with `/`.
        path: String,
        /// Host header; `None` for the back-end's address.
        host: Option<String>,
        /// Lowest status that counts as success.
        status_first: u16,
        /// Highest status that counts as success.
        status_last: u16,
    },
}
