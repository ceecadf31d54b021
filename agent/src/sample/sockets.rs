//! Current clients: the kernel's socket diagnostics (sock_diag(7)) count established connections of the back-ends' ports,
//! and TCP and UDP listeners. Needs no privilege.
//!
//! For each query the kernel walks its whole connection table or UDP socket table, which takes a millisecond on a machine
//! with large tables. These queries become rarer where they would exceed a small share of the time. TCP listeners have a
//! small table of their own and are counted at each sample.

use std::io;
use std::time::{Duration, Instant};

use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkPayload, NetlinkSerializable};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use nix::libc::{AF_INET, AF_INET6, IPPROTO_UDP};
use nix::time::{ClockId, clock_gettime};
use shunt_netlink::RequestSocket;

/// Walks of a large table take at most one part in this many of the time.
const SHARE: u32 = 250;
/// Longest interval between walks.
const LONGEST_GAP: Duration = Duration::from_secs(1);

/// linux/sock_diag.h, linux/netlink.h, linux/inet_diag.h, net/tcp_states.h.
/// The older request: it counts IPv4 and IPv6 in one walk, whereas SOCK_DIAG_BY_FAMILY needs two. It does not support UDP.
const TCPDIAG_GETSOCK: u16 = 18;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const INET_DIAG_REQ_BYTECODE: u16 = 1;
const BYTECODE_JUMP: u8 = 1;
const BYTECODE_SOURCE_PORT_IS: u8 = 11;
const ESTABLISHED: u8 = 1;
/// State of an unconnected UDP socket, which receives from any sender.
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;

/// The kernel's counts for one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Established connections; always 0 for UDP.
    pub clients: u32,
    /// Listening sockets.
    pub listeners: u32,
}

/// The ports of this server's back-ends.
pub struct Sockets {
    kernel: RequestSocket,
    tcp: Ports,
    udp: Ports,
}

/// The ports of one protocol.
struct Ports {
    counts: Vec<(u16, Count)>,
    due: Option<Instant>,
}

impl Sockets {
    /// Prepares to count sockets of these TCP and UDP ports in the agent's network namespace.
    pub fn open(tcp: &[u16], udp: &[u16]) -> io::Result<Self> {
        let kernel = RequestSocket::open(NETLINK_SOCK_DIAG)?;
        Ok(Self { kernel, tcp: Ports::new(tcp), udp: Ports::new(udp) })
    }

    /// Counts TCP sockets: listeners always, connections when due.
    pub fn look_at_tcp(&mut self, now: Instant) -> io::Result<()> {
        let Self { kernel, tcp, .. } = self;
        let numbers = tcp.numbers();
        if numbers.is_empty() {
            return Ok(());
        }
        let listeners = count(kernel, [tcp_request(LISTEN, &numbers)], &numbers)?;
        tcp.put(listeners, |count, listeners| count.listeners = listeners);
        tcp.walk(now, |tcp| {
            let clients = count(kernel, [tcp_request(ESTABLISHED, &numbers)], &numbers)?;
            tcp.put(clients, |count, clients| count.clients = clients);
            Ok(())
        })
    }

    /// Counts UDP sockets when due.
    pub fn look_at_udp(&mut self, now: Instant) -> io::Result<()> {
        let Self { kernel, udp, .. } = self;
        let numbers = udp.numbers();
        if numbers.is_empty() {
            return Ok(());
        }
        udp.walk(now, |udp| {
            let requests = [AF_INET, AF_INET6].map(|family| udp_request(family, &numbers));
            let listeners = count(kernel, requests, &numbers)?;
            udp.put(listeners, |count, listeners| count.listeners = listeners);
            Ok(())
        })
    }

    /// The last counts; `None` if unavailable.
    pub fn of(&self, port: u16, is_tcp: bool) -> Option<Count> {
        let ports = if is_tcp { &self.tcp } else { &self.udp };
        ports.due?;
        ports.counts.iter().find(|(known, _)| *known == port).map(|(_, count)| *count)
    }
}

impl Ports {
    fn new(numbers: &[u16]) -> Self {
        Self { counts: numbers.iter().map(|number| (*number, Count::default())).collect(), due: None }
    }

    fn numbers(&self) -> Vec<u16> {
        self.counts.iter().map(|(number, _)| *number).collect()
    }

    fn put(&mut self, found: Vec<u32>, put: impl Fn(&mut Count, u32)) {
        self.counts.iter_mut().zip(found).for_each(|((_, count), found)| put(count, found));
    }

    /// Walks a large table when due, and delays the next walk in proportion to the time that this one took.
    fn walk(&mut self, now: Instant, walk: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if self.due.is_some_and(|due| now < due) {
            return Ok(());
        }
        let begun = cpu_time()?;
        walk(self)?;
        let taken = cpu_time()?.saturating_sub(begun);
        self.due = Some(now + (taken * SHARE).min(LONGEST_GAP));
        Ok(())
    }
}

/// Sockets that match the requests, by port.
fn count(
    kernel: &mut RequestSocket,
    requests: impl IntoIterator<Item = Diagnosis>,
    ports: &[u16],
) -> io::Result<Vec<u32>> {
    let mut found = vec![0; ports.len()];
    for request in requests {
        // Sockets open and close during the count in any case: an interrupted dump counts them as well.
        let _ = kernel.dump(request, |answer, _| {
            if let Diagnosis::Socket { port } = answer {
                let known = ports.iter().zip(&mut found).filter(|(known, _)| **known == port);
                known.for_each(|(_, count)| *count += 1);
            }
        })?;
    }
    Ok(found)
}

/// CPU time of this thread: on a busy server, wall-clock time would include other processes' time slices.
fn cpu_time() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// A socket-diagnostics message.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Diagnosis {
    /// A request.
    Request { kind: u16, body: Vec<u8> },
    /// A matching socket.
    Socket { port: u16 },
}

impl NetlinkSerializable for Diagnosis {
    fn message_type(&self) -> u16 {
        match self {
            Self::Request { kind, .. } => *kind,
            Self::Socket { .. } => SOCK_DIAG_BY_FAMILY,
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            Self::Request { body, .. } => body.len(),
            Self::Socket { .. } => 0,
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        if let Self::Request { body, .. } = self {
            buffer.copy_from_slice(body);
        }
    }
}

impl NetlinkDeserializable for Diagnosis {
    type Error = io::Error;

    /// struct inet_diag_msg: family, state, timer, retransmissions, source port in network order.
    fn deserialize(_: &NetlinkHeader, message: &[u8]) -> io::Result<Self> {
        match message {
            [_, _, _, _, high, low, ..] => Ok(Self::Socket { port: u16::from_be_bytes([*high, *low]) }),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer about sockets is malformed")),
        }
    }
}

impl From<Diagnosis> for NetlinkPayload<Diagnosis> {
    fn from(message: Diagnosis) -> Self {
        Self::InnerMessage(message)
    }
}

/// struct inet_diag_req: any family, any socket, no extensions.
fn tcp_request(state: u8, ports: &[u16]) -> Diagnosis {
    let mut body = vec![0; 4 + 48];
    body.extend((1_u32 << state).to_ne_bytes());
    body.extend([0; 4]);
    request(TCPDIAG_GETSOCK, body, ports)
}

/// struct inet_diag_req_v2: any socket, no extensions.
fn udp_request(family: i32, ports: &[u16]) -> Diagnosis {
    let mut body = vec![family as u8, IPPROTO_UDP as u8, 0, 0];
    body.extend((1_u32 << CLOSE).to_ne_bytes());
    body.extend([0; 48]);
    request(SOCK_DIAG_BY_FAMILY, body, ports)
}

/// The request with the port filter as an attribute.
fn request(kind: u16, mut body: Vec<u8>, ports: &[u16]) -> Diagnosis {
    let program = choose_ports(ports);
    // A filter for 16 ports has 320 bytes.
    body.extend((4 + program.len() as u16).to_ne_bytes());
    body.extend(INET_DIAG_REQ_BYTECODE.to_ne_bytes());
    body.extend(program);
    Diagnosis::Request { kind, body }
}

/// A filter that accepts the sockets of `ports`: for each port, a comparison and a jump to the end. Each instruction has
/// the offset to the next one if true (a byte) and if false (two bytes); 4 bytes past the end rejects.
fn choose_ports(ports: &[u16]) -> Vec<u8> {
    const COMPARISON: usize = 8;
    const WITH_JUMP: usize = 12;
    let Some(last) = ports.len().checked_sub(1) else {
        return Vec::new();
    };
    let mut program = Vec::new();
    let mut instruction = |code: u8, yes: u8, no: u16| {
        program.extend([code, yes]);
        program.extend(no.to_ne_bytes());
    };
    for (index, port) in ports.iter().enumerate() {
        // To the next comparison, or past the end: 12 bytes in both cases.
        instruction(BYTECODE_SOURCE_PORT_IS, COMPARISON as u8, WITH_JUMP as u16);
        instruction(0, 0, *port);
        if index < last {
            let rest = (last - index) * WITH_JUMP;
            instruction(BYTECODE_JUMP, 4, rest as u16);
        }
    }
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::{CloneFlags, unshare};
    use proptest::prelude::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    /// Interprets a program as the kernel does.
    fn accepts(program: &[u8], port: u16) -> bool {
        let mut left = program.len() as i64;
        while left > 0 {
            let at = program.len() - left as usize;
            let no = u16::from_ne_bytes([program[at + 2], program[at + 3]]);
            let is_true = match program[at] {
                BYTECODE_SOURCE_PORT_IS => u16::from_ne_bytes([program[at + 6], program[at + 7]]) == port,
                BYTECODE_JUMP => false,
                code => panic!("instruction {code}"),
            };
            left -= if is_true { i64::from(program[at + 1]) } else { i64::from(no) };
        }
        left == 0
    }

    proptest! {
        #[test]
        fn a_program_accepts_its_ports_and_no_others(ports in prop::collection::hash_set(any::<u16>(), 1..=16), other: u16) {
            let ports: Vec<u16> = ports.into_iter().collect();
            let program = choose_ports(&ports);
            for port in &ports {
                prop_assert!(accepts(&program, *port));
            }
            prop_assert_eq!(accepts(&program, other), ports.contains(&other));
        }

        #[test]
        fn arbitrary_answers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Diagnosis::deserialize(&NetlinkHeader::default(), &bytes);
        }
    }

    /// Runs `test` in a new network namespace. Namespaces are a thread's, and this one's vanishes with it.
    fn in_namespace(test: fn()) {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: network namespaces need root");
            return;
        }
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
            assert!(up.success());
            test();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }

    #[test]
    fn a_failed_dump_is_an_error() {
        const NO_PROTOCOL: u8 = 254;
        let Diagnosis::Request { kind, mut body } = udp_request(AF_INET, &[53]) else { unreachable!() };
        body[1] = NO_PROTOCOL;
        let mut kernel = RequestSocket::open(NETLINK_SOCK_DIAG).unwrap();
        let refused = count(&mut kernel, [Diagnosis::Request { kind, body }], &[53]).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(nix::libc::ENOENT));
    }

    #[test]
    fn the_kernel_counts_connections_of_both_families() {
        in_namespace(|| {
            let ports: Vec<u16> = (8001..=8016).collect();
            let mut sockets = Sockets::open(&ports, &[]).unwrap();
            assert_eq!(sockets.of(8001, true), None, "before the first look");
            let old = TcpListener::bind("127.0.0.1:8001").unwrap();
            let both = TcpListener::bind("[::]:8016").unwrap();
            let other = TcpListener::bind("127.0.0.1:9000").unwrap();
            let connect = |to: &str| TcpStream::connect(to).unwrap();
            let clients =
                ["127.0.0.1:8001", "127.0.0.1:8001", "127.0.0.1:8016", "[::1]:8016", "[::1]:8016", "127.0.0.1:9000"]
                    .map(connect);
            let begin = Instant::now();
            sockets.look_at_tcp(begin).unwrap();
            assert_eq!(sockets.of(8001, true), Some(Count { clients: 2, listeners: 1 }));
            assert_eq!(sockets.of(8016, true), Some(Count { clients: 3, listeners: 1 }));
            assert_eq!(sockets.of(8002, true), Some(Count::default()));
            assert_eq!(sockets.of(9000, true), None);
            drop((clients, old, other));
            sockets.look_at_tcp(begin + Duration::from_secs(3600)).unwrap();
            assert_eq!(sockets.of(8001, true), Some(Count::default()), "nobody listens any more");
            drop(both);
        });
    }

    #[test]
    fn the_kernel_knows_who_takes_datagrams() {
        in_namespace(|| {
            let mut sockets = Sockets::open(&[], &[8001, 8002, 8003]).unwrap();
            let v4 = UdpSocket::bind("127.0.0.1:8001").unwrap();
            let _both = UdpSocket::bind("[::]:8002").unwrap();
            // Takes what its peer sends alone.
            let client = UdpSocket::bind("127.0.0.1:8003").unwrap();
            client.connect("127.0.0.1:8001").unwrap();
            let begin = Instant::now();
            sockets.look_at_udp(begin).unwrap();
            let listeners =
                |sockets: &Sockets| [8001, 8002, 8003].map(|port| sockets.of(port, false).unwrap().listeners);
            assert_eq!(listeners(&sockets), [1, 1, 0]);
            assert_eq!(sockets.of(8001, true), None);
            drop(v4);
            sockets.look_at_udp(begin + LONGEST_GAP).unwrap();
            assert_eq!(listeners(&sockets), [0, 1, 0]);
        });
    }
}
