//! Connections whose backend went down, or was drained for longer than the service allows.

use super::testing::{BACKENDS, CLIENTS, DNS, End, SERVICE, World, pass};
use super::tests::{CLIENT, TO_BACKEND, TO_CLIENT, assert_sent};
use super::*;
use shunt_packet::Buffer;
use shunt_packet::tcp::{ACK, FIN, PSH, RST, SYN};
use shunt_packet::testing::{PEER_MAC, tcp, udp};
use shunt_packet::{PROTOCOL_TCP, PROTOCOL_UDP};
use shunt_shmlayout::connections::Found;
use shunt_shmlayout::mode::Mode;
use shunt_shmlayout::service::{Algorithm, OnBackendDown};

const NOW_MS: u64 = 10_000;

/// A service with two backends.
struct Pool {
    world: World,
    filter: Filter,
    service: ServiceId,
    backends: [(BackendId, End); 2],
    at: End,
    algorithm: Algorithm,
}

impl Pool {
    fn new(at: End, protocol: u8, mode: Mode, on_backend_down: OnBackendDown) -> Self {
        let mut world = World::new(4096);
        let port = if mode == Mode::Dsr { at.1 } else { 5353 };
        let ends = [([198, 18, 1, 11], port), ([198, 18, 1, 12], port)];
        let backends = ends.map(|end| (world.backend(end, protocol), end));
        let service = world.service(at, protocol, mode, &backends.map(|(id, _)| id));
        world.on_backend_down(service, on_backend_down);
        let filter = world.filter(0);
        let mut pool = Self { world, filter, service, backends, at, algorithm: Algorithm::Static };
        pool.take(&[true, true]);
        pool
    }

    fn dns(on_backend_down: OnBackendDown) -> Self {
        Self::new(DNS, PROTOCOL_UDP, Mode::Nat, on_backend_down)
    }

    fn web(mode: Mode, on_backend_down: OnBackendDown) -> Self {
        Self::new(SERVICE, PROTOCOL_TCP, mode, on_backend_down)
    }

    /// Which backends take new connections.
    fn take(&mut self, takes: &[bool; 2]) {
        let members: Vec<_> =
            self.backends.iter().zip(takes).map(|((id, _), takes)| (*id, u16::from(*takes))).collect();
        self.world.balance(self.service, self.algorithm, &members);
    }

    /// Takes one out: its connections are stale from this second on.
    fn lose(&mut self, lost: usize, from_s: u32) {
        self.take(&[lost != 0, lost != 1]);
        self.world.stale(&[(self.backends[lost].0, self.service, from_s)]);
    }

    fn send(&mut self, frame: Vec<u8>, from: InterfaceId, now_ms: u64) -> (Verdict, Vec<u8>) {
        let mut frame = frame;
        let verdict = pass(&mut self.filter, &mut frame, from, now_ms);
        (verdict, frame)
    }

    /// A query of the client; which backend gets it.
    fn query(&mut self, now_ms: u64) -> Result<usize, Verdict> {
        let (verdict, out) = self.send(udp(CLIENT, self.at).payload(b"query").build(), CLIENTS, now_ms);
        self.receiver(verdict, &out)
    }

    /// The backend that a forwarded frame goes to, by its Ethernet address.
    fn receiver(&self, verdict: Verdict, out: &[u8]) -> Result<usize, Verdict> {
        let id = |(id, _): &(BackendId, End)| out[..6] == [2, 0, 0, 0, 0xb0, id.0 as u8];
        match verdict {
            Verdict::Forward(BACKENDS, _) => Ok(self.backends.iter().position(id).expect("a backend's address")),
            other => Err(other),
        }
    }

    fn mac_of(&self, backend: usize) -> [u8; 6] {
        [2, 0, 0, 0, 0xb0, self.backends[backend].0.0 as u8]
    }

    fn segment(&mut self, flags: u8, payload: &[u8]) -> (Verdict, Vec<u8>) {
        let frame = tcp(CLIENT, self.at, flags).sequence(1000).acknowledgement(2000).payload(payload).build();
        self.send(frame, CLIENTS, NOW_MS)
    }

    fn reply(&mut self, from: usize, flags: u8, payload: &[u8]) -> (Verdict, Vec<u8>) {
        let from = self.backends[from].1;
        let frame = tcp(from, CLIENT, flags).sequence(2000).acknowledgement(1000).payload(payload).build();
        self.send(frame, BACKENDS, NOW_MS)
    }

    /// An established connection; which backend has it.
    fn establish(&mut self) -> usize {
        let (verdict, out) = self.segment(SYN, b"");
        let backend = self.receiver(verdict, &out).expect("forwarded");
        self.reply(backend, SYN | ACK, b"");
        self.segment(ACK, b"");
        backend
    }

    /// In flight by the switchers' counts, and by the table.
    fn in_flight(&self) -> ([i64; 2], [i64; 2]) {
        let table = self.world.connections.table().expect("a whole table");
        let live: Vec<_> = table.live().filter(|(_, now, _)| now.flags & Activity::ENDED == 0).collect();
        let counted = |(id, _): (BackendId, End)| {
            self.world.switchers.iter().map(|region| region.in_flight[usize::from(id.0)].get() as i64).sum()
        };
        let found = |(id, _): (BackendId, End)| live.iter().filter(|(it, ..)| it.backend == id).count() as i64;
        (self.backends.map(counted), self.backends.map(found))
    }

    fn refused(&self) -> u64 {
        self.world.switcher.head.refused[DropReason::StaleBackend as usize].get()
    }
}

/// Compares a reset that took the place of a segment of `from`'s, numbered as that was, and went on to `to`.
#[track_caller]
fn assert_reset_onward(sent: (Verdict, Vec<u8>), interface: InterfaceId, from: End, to: End, next_hop: [u8; 6]) {
    let (sequence, acknowledgement) = if interface == BACKENDS { (1000, 2000) } else { (2000, 1000) };
    let reset = tcp(from, to, RST | ACK).sequence(sequence).acknowledgement(acknowledgement);
    let kind = if interface == BACKENDS { TO_BACKEND } else { TO_CLIENT };
    assert_sent(sent, kind, reset, next_hop);
}

/// Compares a reset that answers a segment with ACK: to `to` in the name of `from`.
#[track_caller]
fn assert_reset_back(sent: (Verdict, Vec<u8>), from: End, to: End, sequence: u32) {
    assert_sent(sent, Verdict::Reply, tcp(from, to, RST).sequence(sequence), PEER_MAC);
}

#[test]
fn a_flow_goes_to_another_backend_with_its_next_packet() {
    let mut pool = Pool::dns(OnBackendDown::Move);
    let old = pool.query(NOW_MS).unwrap();
    pool.lose(old, 0);
    let new = pool.query(NOW_MS).unwrap();
    assert_ne!(new, old);
    assert_eq!(pool.query(NOW_MS), Ok(new));
    let counts: [i64; 2] = core::array::from_fn(|index| i64::from(index == new));
    assert_eq!(pool.in_flight(), (counts, counts));
    assert_eq!(pool.world.switcher.services[0].moved.get(), 1);

    let (from_new, from_old) = (pool.backends[new].1, pool.backends[old].1);
    let (verdict, _) = pool.send(udp(from_new, CLIENT).build(), BACKENDS, NOW_MS);
    assert!(matches!(verdict, Verdict::Forward(CLIENTS, _)));
    let (verdict, _) = pool.send(udp(from_old, CLIENT).build(), BACKENDS, NOW_MS);
    assert_eq!(verdict, Verdict::Drop(DropReason::NoConnection), "too late");

    pool.take(&[true, true]);
    pool.world.stale(&[]);
    assert_eq!(pool.query(NOW_MS), Ok(new), "it stays when the old one is back");
    pool.filter.sweep(8192, NOW_MS);
    assert_eq!(pool.in_flight(), (counts, counts));
}

/// The flow of `CLIENT` as a switcher finds it, and a packet of it on its way.
fn found_by(filter: &Filter, pool: &Pool, frame: &[u8]) -> (PacketMetadata, Found) {
    let mut metadata = filter.parse(frame, CLIENTS, false);
    filter.prefetch(&mut metadata);
    let key = client_key(&metadata.flow, pool.service);
    let found = filter.owner.table().find(&key, metadata.hash).expect("a connection");
    (metadata, found)
}

#[test]
fn a_flow_that_several_switchers_move_at_once_has_moved_once() {
    let mut pool = Pool::dns(OnBackendDown::Move);
    let mut filters = [0, 1].map(|number| pool.world.filter(number));
    let old = pool.query(NOW_MS).unwrap();
    pool.lose(old, 0);
    let frame = udp(CLIENT, DNS).payload(b"query").build();
    // Both find it before either moves it.
    let found = filters.each_ref().map(|filter| found_by(filter, &pool, &frame));
    for (filter, (it, found)) in filters.iter_mut().zip(&found) {
        let context =
            Context { tables: &pool.world.tables.generations[1], metadata: it, interface: CLIENTS, now_ms: NOW_MS };
        let mut frame = frame.clone();
        let verdict = filter.pass_stale(&mut Buffer::from(&mut frame[..]), &context, found).expect("it doesn't stay");
        assert_eq!(pool.receiver(verdict, &frame), Ok(1 - old));
        let counts: [i64; 2] = core::array::from_fn(|index| i64::from(index != old));
        assert_eq!(pool.in_flight(), (counts, counts));
    }
    let moved = pool.world.switchers.iter().map(|region| region.services[0].moved.get());
    assert_eq!(moved.sum::<u64>(), 1);
}

#[test]
fn a_move_that_comes_too_late_leaves_the_next_connection_of_the_entry_alone() {
    let mut pool = Pool::dns(OnBackendDown::Move);
    let old = pool.query(NOW_MS).unwrap();
    pool.lose(old, 0);
    let frame = udp(CLIENT, DNS).payload(b"query").build();
    let mut late = pool.world.filter(1);
    let (it, found) = found_by(&late, &pool, &frame);
    // Meanwhile the owner frees the entry, and others fill the chunk.
    pool.filter.sweep(8192, NOW_MS + 200_000_000);
    for port in 0..1024 {
        pool.send(udp((CLIENT.0, 1000 + port), DNS).build(), CLIENTS, NOW_MS);
    }
    let before = pool.in_flight();
    assert_eq!((before.0[1 - old], before.0), (1024, before.1));
    let context =
        Context { tables: &pool.world.tables.generations[1], metadata: &it, interface: CLIENTS, now_ms: NOW_MS };
    late.pass_stale(&mut Buffer::from(&mut frame.clone()[..]), &context, &found).expect("it doesn't stay");
    let (counted, live) = pool.in_flight();
    assert_eq!((counted[1 - old], counted), (1025, live), "all of the others', and the late one's");
    assert_eq!(pool.world.switchers[1].services[0].moved.get(), 0);
}

#[test]
fn a_move_into_a_full_table_is_dropped_and_not_counted() {
    let mut pool = Pool::dns(OnBackendDown::Move);
    let old = pool.query(NOW_MS).unwrap();
    let capacity = pool.world.connections.table().expect("a whole table").capacity();
    for number in 1..capacity {
        let client = ([198, 18, 2, (number / 1024) as u8], 1000 + (number % 1024) as u16);
        pool.send(udp(client, DNS).build(), CLIENTS, NOW_MS);
    }
    pool.lose(old, 0);
    // A switcher without an entry of its own can't evict any.
    let mut other = pool.world.filter(1);
    let mut frame = udp(CLIENT, DNS).payload(b"query").build();
    assert_eq!(pass(&mut other, &mut frame, CLIENTS, NOW_MS), Verdict::Drop(DropReason::TableFull));
    let moved = |pool: &Pool| pool.world.switchers.iter().map(|it| it.services[0].moved.get()).sum::<u64>();
    assert_eq!(moved(&pool), 0);
    let (counted, found) = pool.in_flight();
    assert_eq!((counted, counted.iter().sum::<i64>()), (found, capacity as i64 - 1));
    assert_eq!(pool.query(NOW_MS), Ok(1 - old), "its old entry makes room for it");
    assert_eq!(moved(&pool), 0, "a new connection by now");
}

#[test]
fn a_move_to_the_client_itself_is_refused_and_not_counted() {
    let mut pool = Pool::dns(OnBackendDown::Move);
    let client = (pool.backends[1].1.0, 40000);
    pool.take(&[true, false]);
    let send = |pool: &mut Pool| pool.send(udp(client, DNS).payload(b"query").build(), BACKENDS, NOW_MS).0;
    assert!(matches!(send(&mut pool), Verdict::Forward(BACKENDS, _)));
    pool.lose(0, 0);
    for _ in 0..2 {
        assert_eq!(send(&mut pool), Verdict::Drop(DropReason::BackendToItself));
        assert_eq!(pool.in_flight(), ([0, 0], [0, 0]));
    }
    assert_eq!(pool.world.switcher.services[0].moved.get(), 0);
}

#[test]
fn dsr_flows_move_too_and_other_services_connections_stay() {
    let mut pool = Pool::new(DNS, PROTOCOL_UDP, Mode::Dsr, OnBackendDown::Move);
    let old = pool.query(NOW_MS).unwrap();
    let other = ServiceId(pool.service.0 + 1);
    pool.world.stale(&[(pool.backends[old].0, other, 0)]);
    assert_eq!(pool.query(NOW_MS), Ok(old), "down for another service only");
    pool.lose(old, 0);
    assert_eq!(pool.query(NOW_MS), Ok(1 - old));
}

#[test]
fn a_flow_of_a_drained_backend_stays_until_the_deadline() {
    let mut pool = Pool::dns(OnBackendDown::Move);
    let old = pool.query(NOW_MS).unwrap();
    pool.lose(old, 40);
    assert_eq!((pool.query(39_999), pool.query(40_000)), (Ok(old), Ok(1 - old)));
}

#[test]
fn a_flow_stays_where_the_service_says_so() {
    let mut pool = Pool::dns(OnBackendDown::Keep);
    let old = pool.query(NOW_MS).unwrap();
    pool.lose(old, 0);
    assert_eq!(pool.query(NOW_MS), Ok(old));
}

#[test]
fn without_another_backend_a_flow_stays_if_its_own_is_down_and_is_refused_if_it_was_drained() {
    let mut pool = Pool::dns(OnBackendDown::Move);
    let own = pool.query(NOW_MS).unwrap();
    pool.lose(own, 0);
    pool.take(&[false, false]);
    assert_eq!(pool.query(NOW_MS), Ok(own));
    pool.lose(own, 5);
    pool.take(&[false, false]);
    for _ in 0..3 {
        assert_eq!(pool.query(NOW_MS), Err(Verdict::Drop(DropReason::NoBackend)));
    }
    assert_eq!(pool.world.switcher.services[0].refused.get(), 0, "no new connection");
    pool.world.stale(&[]);
    assert_eq!(pool.query(NOW_MS), Ok(own), "enabled again");
}

#[test]
fn by_each_algorithm_a_flow_moves_to_what_takes_connections() {
    for algorithm in [Algorithm::Static, Algorithm::SourceHash, Algorithm::LeastConnections] {
        let mut pool = Pool::dns(OnBackendDown::Move);
        pool.algorithm = algorithm;
        pool.take(&[true, true]);
        let old = pool.query(NOW_MS).unwrap();
        pool.lose(old, 0);
        assert_eq!(pool.query(NOW_MS), Ok(1 - old), "{algorithm:?}");
    }
}

#[test]
fn a_rule_says_which_backends_a_flow_may_move_to() {
    let mut pool = Pool::dns(OnBackendDown::Move);
    let third = pool.world.backend(([198, 18, 1, 13], 5353), PROTOCOL_UDP);
    let (a, b) = (pool.backends[0].0, pool.backends[1].0);
    pool.world.class(pool.service, CLIENT.0, &[(a, 1), (third, 0)]);
    assert_eq!(pool.query(NOW_MS), Ok(0));
    pool.world.class(pool.service, CLIENT.0, &[(a, 0), (third, 1)]);
    pool.world.stale(&[(a, pool.service, 0)]);
    pool.backends[1].0 = third;
    assert_eq!(pool.query(NOW_MS), Ok(1), "{b:?} serves others");
}

#[test]
fn tcp_connections_are_left_by_default_and_unanswered_attempts_go_elsewhere() {
    let mut pool = Pool::web(Mode::Nat, OnBackendDown::Keep);
    let old = pool.establish();
    pool.lose(old, 0);
    for flags in [ACK | PSH, SYN, FIN | ACK] {
        let (verdict, out) = pool.segment(flags, b"");
        assert_eq!(pool.receiver(verdict, &out), Ok(old), "{flags:#x}");
    }
    let mut pool = Pool::web(Mode::Nat, OnBackendDown::Keep);
    let (verdict, out) = pool.segment(SYN, b"");
    let old = pool.receiver(verdict, &out).unwrap();
    pool.lose(old, 0);
    let (verdict, out) = pool.segment(SYN, b"");
    assert_eq!(pool.receiver(verdict, &out), Ok(1 - old), "sent again");
    let counts: [i64; 2] = core::array::from_fn(|index| i64::from(index != old));
    assert_eq!(pool.in_flight(), (counts, counts));
}

#[test]
fn a_clients_data_resets_the_backend_and_sent_again_the_client() {
    for mode in [Mode::Nat, Mode::Dsr] {
        let mut pool = Pool::web(mode, OnBackendDown::Reset);
        let old = pool.establish();
        pool.lose(old, 0);
        let sent = pool.segment(ACK | PSH, b"request");
        let end = if mode == Mode::Nat { pool.backends[old].1 } else { SERVICE };
        assert_reset_onward(sent, BACKENDS, CLIENT, end, pool.mac_of(old));
        assert_eq!((pool.refused(), pool.world.switcher.services[0].reset.get()), (1, 1));
        assert_eq!(pool.in_flight(), ([0, 0], [0, 0]));

        assert_reset_back(pool.segment(ACK | PSH, b"request"), SERVICE, CLIENT, 2000);
        assert_eq!((pool.refused(), pool.world.switcher.services[0].reset.get()), (2, 1), "one connection");
        let (verdict, out) = pool.segment(SYN, b"");
        assert_eq!(pool.receiver(verdict, &out), Ok(1 - old), "the port used again is a new connection");
    }
}

#[test]
fn a_backends_data_resets_the_client_and_sent_again_the_backend() {
    let mut pool = Pool::web(Mode::Nat, OnBackendDown::Reset);
    let old = pool.establish();
    let from = pool.backends[old].1;
    pool.lose(old, 10);
    assert_reset_onward(pool.reply(old, ACK | PSH, b"answer"), CLIENTS, SERVICE, CLIENT, PEER_MAC);
    assert_reset_back(pool.reply(old, ACK | PSH, b"answer"), CLIENT, from, 1000);
    assert_eq!(pool.in_flight(), ([0, 0], [0, 0]));
}

#[test]
fn what_carries_no_data_is_answered_at_once_and_a_reset_goes_through() {
    let mut pool = Pool::web(Mode::Nat, OnBackendDown::Reset);
    let old = pool.establish();
    pool.lose(old, 0);
    assert_reset_back(pool.segment(ACK, b""), SERVICE, CLIENT, 2000);
    assert_reset_back(pool.reply(old, FIN | ACK, b""), CLIENT, pool.backends[old].1, 1000);

    let mut pool = Pool::web(Mode::Nat, OnBackendDown::Reset);
    let old = pool.establish();
    pool.lose(old, 0);
    let (verdict, out) = pool.segment(RST, b"");
    assert_eq!(pool.receiver(verdict, &out), Ok(old));
    assert_eq!((pool.refused(), pool.in_flight()), (0, ([0, 0], [0, 0])));
}

#[test]
fn a_backend_without_an_ethernet_address_has_the_client_answered_at_once() {
    let mut pool = Pool::web(Mode::Nat, OnBackendDown::Reset);
    let old = pool.establish();
    pool.lose(old, 0);
    let table = pool.world.control.neighbours;
    let id = table.find(BACKENDS, &Address::from_v4(pool.backends[old].1.0)).unwrap();
    table.resolve(id, None);
    assert_reset_back(pool.segment(ACK | PSH, b"request"), SERVICE, CLIENT, 2000);
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Query,
    Answer(usize),
    Down(usize),
    Drained(usize, u32),
    Back,
    Sweep(u64),
}

fn operation() -> impl proptest::strategy::Strategy<Value = Operation> {
    use proptest::prelude::*;
    prop_oneof![
        6 => Just(Operation::Query),
        2 => (0usize..2).prop_map(Operation::Answer),
        1 => (0usize..2).prop_map(Operation::Down),
        1 => (0usize..2, 0u32..8).prop_map(|(backend, s)| Operation::Drained(backend, s)),
        1 => Just(Operation::Back),
        1 => (0u64..200_000_000).prop_map(Operation::Sweep),
    ]
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    /// Counts in flight stay those of the table, by whichever of three switchers flows move, and no query goes to a backend
    /// whose flows are stale while another one takes them.
    #[test]
    fn flows_move_and_counts_stay_exact(
        operations in proptest::collection::vec((operation(), 0u16..4, 0usize..3), 1..150),
    ) {
        let mut pool = Pool::dns(OnBackendDown::Move);
        let mut filters = [0, 1, 2].map(|number| pool.world.filter(number));
        let mut lost: Option<(usize, u64)> = None;
        for (clock, (operation, port, who)) in (1u64..).zip(operations) {
            let (client, now_ms) = ((CLIENT.0, 1000 + port), NOW_MS + clock * 100);
            let filter = &mut filters[who];
            match operation {
                Operation::Query => {
                    let mut frame = udp(client, DNS).build();
                    let verdict = pass(filter, &mut frame, CLIENTS, now_ms);
                    let to = pool.receiver(verdict, &frame);
                    proptest::prop_assert!(to.is_ok(), "{to:?}");
                    let is_lost = lost.is_some_and(|(backend, from_ms)| now_ms >= from_ms && to == Ok(backend));
                    proptest::prop_assert!(!is_lost, "{to:?}");
                }
                Operation::Answer(from) => {
                    pass(filter, &mut udp(pool.backends[from].1, client).build(), BACKENDS, now_ms);
                }
                Operation::Down(backend) => {
                    lost = Some((backend, 0));
                    pool.lose(backend, 0);
                }
                Operation::Drained(backend, seconds) => {
                    let from_s = (now_ms / 1000) as u32 + seconds;
                    lost = Some((backend, u64::from(from_s) * 1000));
                    pool.lose(backend, from_s);
                }
                Operation::Back => {
                    lost = None;
                    pool.take(&[true, true]);
                    pool.world.stale(&[]);
                }
                Operation::Sweep(later_ms) => { filter.sweep(8192, now_ms + later_ms); }
            }
            let (counted, found) = pool.in_flight();
            proptest::prop_assert_eq!(counted, found);
        }
    }
}
