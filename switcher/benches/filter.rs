//! What the decision alone costs: nanoseconds a packet through the filter's three steps, in batches as the engine makes
//! them, on one CPU, without ports: `cargo bench -p switcher --bench filter [-- [ROUNDS]
//! [PART OF A CASE'S NAME]]`.
//!
//! The cases are those published for the peers: packets of existing connections in shuffled order, only new connections (also
//! by each algorithm), not a service. A frame's headers are written just before its batch is timed, so they are in the
//! cache, as after reception. Prints a table (median and range over the rounds) and asserts nothing about time.

use shunt_packet::tcp::{ACK, SYN};
use shunt_packet::testing::{tcp, udp};
use shunt_packet::{Buffer, checksum};
use shunt_packet::{PROTOCOL_TCP, PROTOCOL_UDP};
use shunt_process::privileges::pin;
use shunt_shmlayout::address::BackendId;
use shunt_shmlayout::loads::LoadRecord;
use shunt_shmlayout::mode::Mode;
use shunt_shmlayout::regions::{ConnectionsRegion, ConnectionsShape, Typed};
use shunt_shmlayout::service::Algorithm;
use shunt_switcher::filter::testing::{BACKENDS, CLIENTS, World};
use shunt_switcher::filter::{Filter, PacketMetadata, Verdict};
use shunt_switcher::port::BATCH;
use std::hint::black_box;
use std::time::{Duration, Instant};

type Endpoint = ([u8; 4], u16);

const SERVICE: Endpoint = ([198, 18, 0, 100], 80);
const NOWHERE: Endpoint = ([198, 18, 0, 100], 9);
const BYSTANDER: Endpoint = ([198, 18, 0, 1], 22);
const BACKEND_COUNT: u16 = 16;
/// Packets timed in a round, at least.
const PACKETS: usize = 2_000_000;
/// Offsets in a frame without tag and options.
const IP_CHECKSUM: usize = 24;
const SOURCE: (usize, usize) = (26, 34);
const DESTINATION: (usize, usize) = (30, 36);

/// The client with this number: 65536 addresses, then the next port.
fn client(number: u32) -> Endpoint {
    let [_, _, c, d] = number.to_be_bytes();
    ([198, 19, c, d], 1024 + (number >> 16) as u16)
}

/// A batch of frames that are made from one template, each for another client.
struct Frames {
    frames: Vec<Vec<u8>>,
    template: Vec<u8>,
    client_at: (usize, usize),
    /// The clients share so many ports of the service's address, from its own on.
    ports: u16,
}

impl Frames {
    fn new(template: Vec<u8>, client_at: (usize, usize)) -> Self {
        let mut frame = template.clone();
        frame.resize(256, 0);
        Self { frames: vec![frame; BATCH], template, client_at, ports: 1 }
    }

    fn fill(&mut self, clients: &[u32]) {
        for (frame, number) in self.frames.iter_mut().zip(clients) {
            let (address, port) = client(*number);
            frame[..self.template.len()].copy_from_slice(&self.template);
            frame[self.client_at.0..][..4].copy_from_slice(&address);
            frame[self.client_at.1..][..2].copy_from_slice(&port.to_be_bytes());
            if self.ports > 1 {
                let port = SERVICE.1 + (number % u32::from(self.ports)) as u16;
                frame[DESTINATION.1..][..2].copy_from_slice(&port.to_be_bytes());
            }
            frame[IP_CHECKSUM..][..2].fill(0);
            let sum = checksum::finish(checksum::sum(&frame[14..34]));
            frame[IP_CHECKSUM..][..2].copy_from_slice(&sum.to_be_bytes());
        }
    }

    /// The three steps over a batch, as the engine does them.
    fn pass(
        &mut self,
        filter: &mut Filter,
        metadata: &mut [PacketMetadata; BATCH],
        count: usize,
        now_ms: u64,
    ) -> Verdict {
        let length = self.template.len();
        let from = if self.client_at == SOURCE { CLIENTS } else { BACKENDS };
        for (frame, parsed) in self.frames[..count].iter().zip(metadata.iter_mut()) {
            *parsed = filter.parse(&frame[..length], from, false);
        }
        for parsed in &mut metadata[..count] {
            filter.prefetch(parsed);
        }
        let mut verdict = Verdict::NotOurs;
        for (frame, parsed) in self.frames[..count].iter_mut().zip(metadata.iter()) {
            verdict = black_box(filter.decide(&mut Buffer::new(frame, 0), parsed, from, now_ms));
        }
        verdict
    }

    /// Passes a packet of each client; the time that the filter took, and the last verdict.
    fn run(&mut self, filter: &mut Filter, clients: &[u32], now_ms: u64) -> (Duration, Verdict) {
        let mut metadata = [PacketMetadata::NONE; BATCH];
        let mut time = Duration::ZERO;
        let mut verdict = Verdict::NotOurs;
        for batch in clients.chunks(BATCH) {
            self.fill(batch);
            let start = Instant::now();
            verdict = self.pass(filter, &mut metadata, batch.len(), now_ms);
            time += start.elapsed();
        }
        (time, verdict)
    }
}

/// A service of 16 backends over one of the protocols, and room for so many connections.
fn world(connections: u32, protocol: u8) -> (World, Filter) {
    let mut world = World::new(connections);
    let backends: Vec<_> = (0..BACKEND_COUNT).map(|n| world.backend(backend(n), protocol)).collect();
    world.service(SERVICE, protocol, Mode::Nat, &backends);
    let filter = world.filter(0);
    (world, filter)
}

fn backend(number: u16) -> Endpoint {
    ([198, 18, 1, 10 + number as u8], 8080)
}

fn packet(protocol: u8, source: Endpoint, destination: Endpoint, flags: u8) -> Vec<u8> {
    match protocol {
        PROTOCOL_UDP => udp(source, destination).payload(&[7; 18]).build(),
        _ => tcp(source, destination, flags).payload(&[7; 6]).build(),
    }
}

fn in_order(n: u32) -> Vec<u32> {
    (0..n).collect()
}

/// Numbers below `n` in an order that no prefetcher guesses (xorshift, Fisher-Yates).
fn shuffled(n: u32) -> Vec<u32> {
    let mut order = in_order(n);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for last in (1..order.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(last, (state % (last as u64 + 1)) as usize);
    }
    order
}

/// What the command line asks for.
struct Options {
    rounds: usize,
    part: String,
}

impl Options {
    fn read() -> Self {
        let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
        let rounds = words.iter().find_map(|word| word.parse().ok()).unwrap_or(5);
        let part = words.into_iter().find(|word| word.parse::<usize>().is_err()).unwrap_or_default();
        Self { rounds, part }
    }

    fn wants(&self, case: &str) -> bool {
        case.contains(&self.part)
    }
}

/// Nanoseconds a packet, one number a round.
fn print(case: &str, mut rounds: Vec<f64>) {
    rounds.sort_by(f64::total_cmp);
    let (low, median, high) = (rounds[0], rounds[rounds.len() / 2], rounds[rounds.len() - 1]);
    println!("{case:<58} {median:>8.1} {low:>8.1} .. {high:.1}");
}

fn ns_each(time: Duration, packets: usize) -> f64 {
    time.as_nanos() as f64 / packets as f64
}

/// Connections as most packets find them: opened by the client, answered by the backend, acknowledged. Returns the clients'
/// numbers by backend.
fn establish(world: &World, filter: &mut Filter, protocol: u8, connections: u32, ports: u16) -> Vec<Vec<u32>> {
    let from_clients = |flags| Frames { ports, ..Frames::new(packet(protocol, client(0), SERVICE, flags), SOURCE) };
    // In another order than they are looked for in: entries are handed out one after another.
    from_clients(SYN).run(filter, &in_order(connections), 1000);
    let table = world.connections.table().expect("a whole table");
    let mut by_backend = vec![Vec::new(); usize::from(BACKEND_COUNT)];
    for (connection, ..) in table.live() {
        let [_, _, c, d] = connection.client.v4().expect("IPv4");
        let number = u32::from(connection.client_port.get() - 1024) << 16 | u32::from(c) << 8 | u32::from(d);
        by_backend[usize::from(connection.backend.0)].push(number);
    }
    for (number, clients) in (0..).zip(&by_backend) {
        let answer = packet(protocol, backend(number), client(0), SYN | ACK);
        Frames::new(answer, DESTINATION).run(filter, clients, 1000);
    }
    from_clients(ACK).run(filter, &in_order(connections), 1000);
    by_backend
}

fn existing(protocol: u8, name: &str, connections: u32, options: &Options) {
    let case = format!("existing connection, {name}, {connections} connections");
    if !options.wants(&case) {
        return;
    }
    let (world, mut filter) = world(connections, protocol);
    let order = shuffled(connections);
    establish(&world, &mut filter, protocol, connections, 1);
    let mut frames = Frames::new(packet(protocol, client(0), SERVICE, ACK), SOURCE);
    let times = (0..options.rounds).map(|_| {
        let repeats = PACKETS.div_ceil(order.len());
        let (mut time, mut packets) = (Duration::ZERO, 0);
        if order.len() < BATCH {
            let many = vec![order[0]; PACKETS];
            let (one, verdict) = frames.run(&mut filter, &many, 1000);
            assert!(matches!(verdict, Verdict::Forward(..)));
            return ns_each(one, many.len());
        }
        for _ in 0..repeats {
            let (one, verdict) = frames.run(&mut filter, &order, 1000);
            assert!(matches!(verdict, Verdict::Forward(..)));
            (time, packets) = (time + one, packets + order.len());
        }
        ns_each(time, packets)
    });
    let times = times.collect();
    print(&case, times);
}

/// One address with many services, each packet to another port of it.
fn many_ports(ports: u16, connections: u32, options: &Options) {
    let case = format!("existing connection, TCP, {connections} connections, {ports} ports");
    if !options.wants(&case) {
        return;
    }
    let (mut world, _) = world(connections, PROTOCOL_TCP);
    let backends: Vec<_> = (0..BACKEND_COUNT).map(BackendId).collect();
    for port in 1..ports {
        world.service_of(17, (SERVICE.0, SERVICE.1 + port), PROTOCOL_TCP, Mode::Nat, &backends);
    }
    let mut filter = world.filter(0);
    establish(&world, &mut filter, PROTOCOL_TCP, connections, ports);
    let mut frames = Frames { ports, ..Frames::new(packet(PROTOCOL_TCP, client(0), SERVICE, ACK), SOURCE) };
    let order = shuffled(connections);
    let repeats = PACKETS.div_ceil(order.len());
    let times = (0..options.rounds).map(|_| {
        let mut time = Duration::ZERO;
        for _ in 0..repeats {
            let (one, verdict) = frames.run(&mut filter, &order, 1000);
            assert!(matches!(verdict, Verdict::Forward(..)));
            time += one;
        }
        ns_each(time, repeats * order.len())
    });
    let times = times.collect();
    print(&case, times);
}

/// Replies of the backends.
fn replies(connections: u32, options: &Options) {
    let case = format!("existing connection, TCP reply, {connections} connections");
    if !options.wants(&case) {
        return;
    }
    let (world, mut filter) = world(connections, PROTOCOL_TCP);
    let by_backend = establish(&world, &mut filter, PROTOCOL_TCP, connections, 1);
    let times = (0..options.rounds).map(|_| {
        let (mut time, mut packets) = (Duration::ZERO, 0);
        for (number, clients) in (0..).zip(&by_backend) {
            let mut frames = Frames::new(packet(PROTOCOL_TCP, backend(number), client(0), ACK), DESTINATION);
            let shuffled: Vec<u32> =
                shuffled(clients.len() as u32).into_iter().map(|index| clients[index as usize]).collect();
            let (one, verdict) = frames.run(&mut filter, &shuffled, 1000);
            assert!(matches!(verdict, Verdict::Forward(..)));
            (time, packets) = (time + one, packets + shuffled.len());
        }
        ns_each(time, packets)
    });
    let times = times.collect();
    print(&case, times);
}

fn new_each(protocol: u8, name: &str, connections: u32, options: &Options) {
    let case = format!("new connection each packet, {name}, table of {connections}");
    if !options.wants(&case) {
        return;
    }
    let order = shuffled(connections);
    let times = (0..options.rounds).map(|_| {
        let (_world, mut filter) = world(connections, protocol);
        let mut frames = Frames::new(packet(protocol, client(0), SERVICE, SYN), SOURCE);
        let (time, verdict) = frames.run(&mut filter, &order, 1000);
        assert!(matches!(verdict, Verdict::Forward(..)));
        ns_each(time, order.len())
    });
    let times = times.collect();
    print(&case, times);
}

/// New connections whose backend is chosen by an algorithm: all four switchers' counts and all reports are read.
fn new_by(algorithm: Algorithm, name: &str, backends: u8, connections: u32, options: &Options) {
    let case = format!("new connection each packet, TCP, {name}, {backends} backends");
    if !options.wants(&case) {
        return;
    }
    let order = shuffled(connections);
    let times = (0..options.rounds).map(|_| {
        let mut world = World::new(connections);
        let ids: Vec<_> = (0..backends).map(|n| world.backend(backend(n.into()), PROTOCOL_TCP)).collect();
        let service = world.service(SERVICE, PROTOCOL_TCP, Mode::Nat, &ids);
        let members: Vec<_> = ids.iter().map(|id| (*id, 1)).collect();
        world.balance(service, algorithm, &members);
        for (id, n) in ids.iter().zip(1..) {
            let load = LoadRecord { execution_us: 1000 * n, expires_ms: u64::MAX, ..LoadRecord::default() };
            world.control.loads.set(*id, &load);
        }
        let mut filter = world.filter(0);
        let mut frames = Frames::new(packet(PROTOCOL_TCP, client(0), SERVICE, SYN), SOURCE);
        let (time, verdict) = frames.run(&mut filter, &order, 1000);
        assert!(matches!(verdict, Verdict::Forward(..)));
        ns_each(time, order.len())
    });
    let times = times.collect();
    print(&case, times);
}

fn other(case: &str, to: Endpoint, expected: fn(&Verdict) -> bool, options: &Options) {
    if !options.wants(case) {
        return;
    }
    let (_world, mut filter) = world(1 << 20, PROTOCOL_UDP);
    let mut frames = Frames::new(packet(PROTOCOL_UDP, client(0), to, 0), SOURCE);
    let order = shuffled(1 << 20);
    let times = (0..options.rounds).map(|_| {
        let (time, verdict) = frames.run(&mut filter, &order, 1000);
        assert!(expected(&verdict));
        ns_each(time, order.len())
    });
    let times = times.collect();
    print(case, times);
}

fn main() {
    let options = Options::read();
    let rounds = options.rounds;
    let pinned = pin(1).is_ok();
    println!("port: memory; batches of {BATCH}; nat; {rounds} rounds; pinned to CPU 1: {pinned}");
    println!("{:<58} {:>8} {:>8}", "case", "median", "range, ns a packet");
    for (protocol, name) in [(PROTOCOL_TCP, "TCP"), (PROTOCOL_UDP, "UDP")] {
        for connections in [1, 1 << 10, 1 << 17, 1 << 20, 1 << 22] {
            existing(protocol, name, connections, &options);
        }
    }
    many_ports(1000, 1 << 17, &options);
    replies(1 << 20, &options);
    new_each(PROTOCOL_TCP, "TCP", 1 << 20, &options);
    new_each(PROTOCOL_UDP, "UDP", 1 << 20, &options);
    for backends in [8, 64] {
        for &algorithm in Algorithm::ALL {
            new_by(algorithm, algorithm.name(), backends, 1 << 18, &options);
        }
    }
    other("not a service: port of a service address (dropped)", NOWHERE, |v| matches!(v, Verdict::Drop(_)), &options);
    other("not a service: another host's address", BYSTANDER, |v| *v == Verdict::NotOurs, &options);
    for connections in [1_000_000, 10_000_000] {
        let bytes = <ConnectionsRegion>::length(&ConnectionsShape::new(connections));
        println!("bytes a connection, table of {connections:<36} {:>8.1}", bytes as f64 / f64::from(connections));
    }
}
