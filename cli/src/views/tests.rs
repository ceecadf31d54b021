//! Rows and tables from real shared memory of known content, and refusals.

use super::*;
use crate::admin::BackendDetails;
use crate::configuration::{Configuration, ConfigurationError};
use crate::memory::{Memory, MemoryError};
use crate::output::Report;
use serde_json::{Value, json, to_value};
use shunt_process::Instance;
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::address::{BackendId, InterfaceId, Mac, Protocol, ServiceId};
use shunt_shmlayout::config_table::{BackendRecord, ClassRecord, MemberRecord, Name, ServiceRecord};
use shunt_shmlayout::connections::{Activity, LastHop, Owner, Snapshot, State};
use shunt_shmlayout::drop_reason::DropReason;
use shunt_shmlayout::flip::publish;
use shunt_shmlayout::header::start_time;
use shunt_shmlayout::loads::LoadRecord;
use shunt_shmlayout::mode::Mode;
use shunt_shmlayout::notice::Notice;
use shunt_shmlayout::regions::{
    ConnectionsRegion, ConnectionsShape, ControlRegion, ControlShape, DaemonDrop, IfdaemonRegion, IfdaemonShape,
    InterfaceRecord, KeeperRegion, KeeperShape, PORT_RECEIVES, PortRecord, StoreRegion, StoreShape, SwitcherRecord,
    SwitcherRegion, SwitcherShape, Whole,
};
use shunt_shmlayout::report_outcome::ReportOutcome;
use shunt_shmlayout::service::{Algorithm, Target};
use shunt_shmlayout::sync::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

/// "Now", in milliseconds of CLOCK_MONOTONIC; heartbeats below are relative to it.
const NOW_MS: u64 = 1_000_000;

/// An instance of one test alone; its regions are unlinked at the test's end whatever happens.
struct Fixture {
    instance: Instance,
    control: ControlRegion<Writer>,
    keeper: KeeperRegion<Writer>,
    connections: ConnectionsRegion<Writer>,
    switchers: [SwitcherRegion<Writer, Writer>; 2],
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let regions = ["control", "keeper", "connections", "switcher.0", "switcher.1"];
        for region in regions.into_iter().chain(["store.0", "store.1", "ifdaemon"]) {
            let _ = std::fs::remove_file(self.path(region));
        }
    }
}

fn region(instance: &Instance, name: &str) -> String {
    shunt_process::region_name(instance, name)
}

impl Fixture {
    /// Regions as the keeper makes them, all zero.
    fn empty(test: &str) -> Self {
        let instance: Instance = format!("t-{}-{test}", std::process::id()).parse().unwrap();
        let switcher = SwitcherShape { services: 4, backends: 4, interfaces: 2, frames: 64, reserved: [0; 4] };
        let keeper = KeeperShape { interfaces: 2, switchers: 2, ports: 8, reserved: [0; 5] };
        let named = |name: &str| region(&instance, name);
        let make = |n: usize| SwitcherRegion::create(&named(&format!("switcher.{n}")), &switcher, |_| ()).unwrap().0;
        Self {
            control: ControlRegion::create(&named("control"), &ControlShape::new(4, 4, 64, 16, 8), |_| ()).unwrap().0,
            keeper: KeeperRegion::create(&named("keeper"), &keeper, |_| ()).unwrap().0,
            connections: ConnectionsRegion::create(&named("connections"), &ConnectionsShape::new(1024), |_| ())
                .unwrap()
                .0,
            switchers: [make(0), make(1)],
            instance,
        }
    }

    /// The regions of a pseudo-interface, shunt0; some traffic in store 0.
    fn with_host(&self) {
        let store = |n: usize| region(&self.instance, &format!("store.{n}"));
        let first = StoreRegion::create(&store(0), &StoreShape::new(8), |_| ()).unwrap().0;
        StoreRegion::create(&store(1), &StoreShape::new(8), |_| ()).unwrap();
        let name = region(&self.instance, "ifdaemon");
        let daemon = IfdaemonRegion::create(&name, &IfdaemonShape::default(), |_| ()).unwrap().0;
        self.keeper.head.device_index.set(9);
        self.keeper.head.set_device_name("shunt0");
        first.switcher.packets_in.set(12);
        first.switcher.bytes_in.set(1200);
        first.switcher.wakes.set(3);
        first.daemon.dropped.set(1);
        let mut to_host = first.to_host.producer();
        to_host.push(&[0x45; 20]).unwrap();
        to_host.publish();
        daemon.head.drops[DaemonDrop::Ipv6 as usize].set(4);
    }

    /// One service with two backends, of which the second is down; one connection; some traffic.
    fn running(test: &str) -> Self {
        let fixture = Self::empty(test);
        fixture.configure();
        fixture.start();
        fixture.connect();
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/dev/shm{}", region(&self.instance, name)))
    }

    fn memory(&self) -> Memory {
        Memory::attach(&self.instance).unwrap()
    }

    fn configure(&self) {
        let generation = &self.control.generations[1]; // the first to be published
        let hop = Address::from_v4([198, 18, 1, 11]);
        let neighbour = self.control.neighbours.intern(InterfaceId(1), &hop, |_| false).unwrap();
        self.control.neighbours.resolve(neighbour, Some(Mac([2, 0, 0, 0, 0, 11])));
        generation.services[0].store(&ServiceRecord {
            address: Address::from_v4([198, 18, 0, 100]),
            port: PortBe::new(80),
            protocol: Protocol::Tcp.code(),
            mode: Mode::Nat.code(),
            slots_count: 4,
            members_count: 2,
            ..Default::default()
        });
        generation.service_names[0].store(&Name::new("web"));
        let backend = |last, flags, neighbour| BackendRecord {
            address: Address::from_v4([198, 18, 1, last]),
            port: PortBe::new(8080),
            protocol: Protocol::Tcp.code(),
            flags,
            interface: 1,
            neighbour,
            ..Default::default()
        };
        generation.backends[0].store(&backend(11, BackendRecord::UP, neighbour.0));
        generation.backends[1].store(&backend(12, 0, u32::MAX));
        generation.backend_names[0].store(&Name::new("b1"));
        generation.backend_names[1].store(&Name::new("b2"));
        generation.members[0].store(&MemberRecord { backend: 0, weight: 2, effective: 2, factor_permille: 1000 });
        generation.members[1].store(&MemberRecord { backend: 1, weight: 1, effective: 0, factor_permille: 1000 });
        publish(&self.control.head.active);
    }

    /// The keeper and switcher 0 are this process; control is one that never was; switcher 1 hasn't started.
    fn start(&self) {
        let pid = std::process::id();
        let started = start_time(pid).unwrap();
        let keeper = self.keeper.head;
        let (switcher, control) = (self.switchers[0].head, self.control.head);
        for (pid_word, start_word, heartbeat) in [
            (&keeper.pid, &keeper.start_time, &keeper.heartbeat_ms),
            (&switcher.pid, &switcher.start_time, &switcher.heartbeat_ms),
        ] {
            pid_word.set(pid.into());
            start_word.set(started);
            heartbeat.set(NOW_MS - 20);
        }
        control.pid.set(pid.into());
        control.start_time.set(started + 1); // the pid was used again
        control.heartbeat_ms.set(NOW_MS - 90_000);
        let active = control.active.load(Ordering::Relaxed);
        switcher.in_use.store(active, Ordering::Relaxed);
        keeper.owned.store(active, Ordering::Relaxed);
        let interface = |name, ifindex| InterfaceRecord {
            name: Name::new(name),
            ifindex,
            mtu: 1500,
            mac: [2, 0, 0, 0, 0, 1],
            side: 3,
            reserved: [0; 17],
        };
        self.keeper.interfaces[0].store(&interface("eth0", 2));
        self.keeper.interfaces[1].store(&interface("eth1", 3));
        self.keeper.switchers[0].store(&SwitcherRecord { cpu: 3, pid, ..Default::default() });
        let port = |queue, flags| PortRecord { queue, kind: 1, mode: 2, flags, ..Default::default() };
        self.keeper.ports[0].store(&port(0, PORT_RECEIVES));
        self.keeper.ports[1].store(&port(1, 0));
        let numbers = &self.switchers[0].interfaces[0];
        numbers.received.set(10);
        numbers.bytes_received.set(640);
        numbers.missed.set(5);
        switcher.generation.set(1);
        switcher.received.set(10);
        switcher.sent.set(7);
        switcher.passed.set(1);
        switcher.drops[DropReason::NoRoute as usize].set(2);
        self.switchers[1].head.drops[DropReason::TcpFlags as usize].set(3);
        self.switchers[1].head.received.set(4);
    }

    /// One connection that is in flight, and one that its client has closed.
    fn connect(&self) {
        let mut owner = Owner::adopt(self.connections.table().unwrap(), 0, Default::default());
        let activity = Activity { last_seen_ms: NOW_MS - 1500, state: State::Established, flags: Activity::ANSWERED };
        self.record(&mut owner, 40_000, activity);
        let flags = Activity::ANSWERED | Activity::CLIENT_FIN | Activity::ENDED;
        self.record(&mut owner, 40_001, Activity { state: State::Closing, flags, ..activity });
        let (service, backend) = (&self.switchers[0].services[0], &self.switchers[0].backends[0]);
        service.connections.set(3);
        service.packets_in.set(30);
        service.bytes_in.set(3000);
        service.moved.set(4);
        backend.opened.set(3);
        self.switchers[0].in_flight[0].set(3);
        // By another switcher than opened them.
        self.switchers[1].backends[0].closed.set(1);
        self.switchers[1].in_flight[0].subtract(2);
    }

    fn record(&self, owner: &mut Owner<'_>, port: u16, activity: Activity) {
        let connection = Snapshot {
            client: Address::from_v4([198, 18, 0, 7]),
            client_port: PortBe::new(port),
            service: ServiceId(0),
            backend: BackendId(0),
            protocol: Protocol::Tcp.into(),
            mode: Mode::Nat.into(),
            created_ms: NOW_MS - 65_000,
        };
        let (hashes, hop) = (owner.table().hashes(&connection), LastHop { mac: [0; 6], interface: InterfaceId(0) });
        owner.record(&connection, hashes, activity, hop).unwrap();
    }
}

#[test]
fn a_service_is_summed_over_switchers_and_its_connections_counted() {
    let fixture = Fixture::running("services");
    let memory = fixture.memory();
    let report = ServicesReport::read(&memory, &Configuration::read(&memory.control).unwrap());
    let row = &to_value(&report).unwrap()["services"][0];
    let expected = json!({
        "id": 0, "name": "web", "address": "198.18.0.100:80", "protocol": "tcp", "mode": "nat", "algorithm": "static", "client_ranges": 0, "state": "up",
        "target": "backends",
        "backends_up": 1, "backends_total": 2, "active_connections": 1, "inactive_connections": 1, "connections": 3, "packets_in": 30,
        "bytes_in": 3000, "packets_out": 0, "bytes_out": 0, "refused": 0, "moved": 4, "reset": 0,
    });
    assert_eq!(*row, expected);
    let lines: Vec<String> = report.text().lines().map(str::to_owned).collect();
    assert!(lines[0].starts_with("NAME  ADDRESS"), "{lines:?}");
    assert!(lines[1].starts_with("web   198.18.0.100:80  tcp    nat   static     up          1/2"), "{lines:?}");
}

#[test]
fn a_backend_shows_state_share_and_next_hop() {
    let fixture = Fixture::running("backends");
    let memory = fixture.memory();
    let refused = BackendDetails { health: Some("connection refused".to_owned()), ..BackendDetails::default() };
    let details = HashMap::from([("b2".to_owned(), refused)]);
    let report = BackendsReport::read(&memory, &Configuration::read(&memory.control).unwrap(), &details, NOW_MS);
    let rows = &to_value(&report).unwrap()["backends"];
    let members = json!([{
        "service": "web", "weight": 2, "effective_weight": 2, "factor": 1.0, "why": null, "slots_percent": 100.0,
    }]);
    assert_eq!(rows[0]["services"], members);
    assert_eq!(rows[0]["next_hop_mac"], "02:00:00:00:00:0b");
    assert_eq!(rows[0]["interface"], "eth1");
    let counted = ["active_connections", "inactive_connections", "opened"].map(|name| &rows[0][name]);
    assert_eq!(counted, [1, 1, 3].map(|n| json!(n)).each_ref());
    assert_eq!((&rows[1]["state"], &rows[1]["health"]), (&json!("down"), &json!("connection refused")));
    assert_eq!(rows[1]["next_hop"], Value::Null);
    let text = report.text();
    assert!(text.contains("02:00:00:00:00:0b  eth1"), "{text}");
    assert!(text.contains("no route"), "{text}");
}

#[test]
fn a_report_shows_its_age_and_what_became_of_it() {
    let fixture = Fixture::running("reports");
    let load = LoadRecord {
        in_flight: 4,
        execution_us: 2500,
        workers: 4,
        flags: LoadRecord::IN_FLIGHT | LoadRecord::DRAIN | LoadRecord::WORKERS_LEARNT,
        score: 12_500,
        reported_ms: NOW_MS - 1500,
        expires_ms: NOW_MS + 500,
        ..LoadRecord::default()
    };
    fixture.control.loads.set(BackendId(0), &load);
    fixture.control.generations.iter().for_each(|generation| {
        let member = MemberRecord { backend: 0, weight: 2, effective: 2, factor_permille: 350 };
        generation.members[0].store(&member);
    });
    fixture.control.reports[ReportOutcome::Forged as usize].add(7);
    let memory = fixture.memory();
    let why = HashMap::from([("web".to_owned(), "even: 1.70 load".to_owned())]);
    let details = HashMap::from([("b1".to_owned(), BackendDetails { health: None, feedback: why })]);
    let report = BackendsReport::read(&memory, &Configuration::read(&memory.control).unwrap(), &details, NOW_MS);
    let row = &to_value(&report).unwrap()["backends"][0];
    assert_eq!((&row["services"][0]["factor"], &row["load"]["age_ms"]), (&json!(0.35), &json!(1500)));
    assert_eq!((&row["load"]["workers"], &row["load"]["workers_learnt"]), (&json!(4), &json!(true)));
    assert_eq!((&row["load"]["says"], &row["load"]["clients"]), (&json!("drain"), &Value::Null));
    let text = report.text();
    assert!(text.contains("2/0.70") && text.contains("12.5ms       ~4    1.5s  even: 1.70 load"), "{text}");
    let status = StatusReport::read(&memory, &Sample::take(&memory), &Outside::default(), false, NOW_MS);
    assert!(status.text().contains("reports: forged 7\n"), "{}", status.text());
    let ignored = LoadRecord { flags: LoadRecord::NEVER_LISTENING, execution_us: 0, workers: 0, score: 0, ..load };
    fixture.control.loads.set(BackendId(0), &ignored);
    let report = BackendsReport::read(&memory, &Configuration::read(&memory.control).unwrap(), &details, NOW_MS);
    assert_eq!(to_value(&report).unwrap()["backends"][0]["load"]["ignored"], json!("never_listening"));
    assert!(report.text().contains("ignored        -    1.5s"), "{}", report.text());
}

#[test]
fn an_unresolved_next_hop_is_said() {
    let fixture = Fixture::running("unresolved");
    let neighbours = fixture.control.neighbours;
    let id = neighbours.find(InterfaceId(1), &Address::from_v4([198, 18, 1, 11])).unwrap();
    neighbours.resolve(id, None);
    let memory = fixture.memory();
    let configuration = Configuration::read(&memory.control).unwrap();
    assert!(BackendsReport::read(&memory, &configuration, &HashMap::new(), NOW_MS).text().contains("unresolved"));
}

#[test]
fn connections_are_filtered_by_name_and_limited() {
    let fixture = Fixture::running("connections");
    let memory = fixture.memory();
    let configuration = Configuration::read(&memory.control).unwrap();
    let read = |service: Option<&str>, backend: Option<&str>, limit| {
        let (service, backend) = (service.map(str::to_owned), backend.map(str::to_owned));
        let filter = Filter { service, backend, client: "198.18.0.7:40000".parse().ok(), limit, ..Filter::default() };
        ConnectionsReport::read(&memory, &configuration, &filter, NOW_MS)
    };
    let expected = json!({ "matching": 1, "connections": [{
        "protocol": "tcp", "client": "198.18.0.7:40000", "service": "web", "backend": "b1", "state": "established",
        "age_ms": 65_000, "idle_ms": 1500, "flags": ["answered"],
    }] });
    assert_eq!(to_value(read(Some("web"), Some("b1"), 50).unwrap()).unwrap(), expected);
    assert_eq!(read(None, Some("b2"), 50).unwrap().text(), "no connection\n");
    assert!(read(None, None, 0).unwrap().text().ends_with("0 of 1 connections; --limit N shows more\n"));
    let error = read(Some("wbe"), None, 50).unwrap_err().to_string();
    assert_eq!(error, "there is no service \"wbe\"; there is: web");
}

#[test]
fn connections_are_filtered_by_state_and_client() {
    let fixture = Fixture::running("states");
    let memory = fixture.memory();
    let configuration = Configuration::read(&memory.control).unwrap();
    let read = |states: &[Stage], client: Option<&str>| {
        let (states, client) = (states.to_vec(), client.map(|client| client.parse().unwrap()));
        let filter = Filter { states, client, limit: 50, ..Filter::default() };
        let report = ConnectionsReport::read(&memory, &configuration, &filter, NOW_MS).unwrap();
        let ports = report.connections.iter().map(|row| row.client.trim_start_matches("198.18.0.7:").to_owned());
        ports.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ")
    };
    let read_states = [&[Stage::Established][..], &[Stage::Closing], &[Stage::Opening, Stage::Closed], &[]];
    assert_eq!(read_states.map(|states| read(states, None)), ["40000", "40001", "", "40000 40001"]);
    let clients = ["198.18.0.7", "198.18.0.7:40001", "198.18.0.8", "198.18.0.7:80"];
    assert_eq!(clients.map(|client| read(&[], Some(client))), ["40000 40001", "40001", "", ""]);
    assert_eq!(read(&[Stage::Established], Some("198.18.0.7:40001")), "");
    assert!("198.18.0.7:99999".parse::<Client>().is_err_and(|said| said.contains("198.18.0.2:57078")));
}

#[test]
fn only_algorithms_with_slots_show_a_share_of_them() {
    let fixture = Fixture::running("slots");
    let services = fixture.control.generations[1].services;
    let record: ServiceRecord = services[0].load();
    let share = |algorithm: Algorithm| {
        services[0].store(&ServiceRecord { algorithm: algorithm.code(), ..record });
        let memory = fixture.memory();
        let configuration = Configuration::read(&memory.control).unwrap();
        let report = BackendsReport::read(&memory, &configuration, &HashMap::new(), NOW_MS);
        report.backends[0].services[0].slots_percent
    };
    assert_eq!([Algorithm::Static, Algorithm::Even, Algorithm::SourceHash].map(share), [Some(100.0); 3]);
    assert_eq!([Algorithm::Lightest, Algorithm::LeastConnections, Algorithm::Latency].map(share), [None; 3]);
}

#[test]
fn drops_are_summed_most_first_and_zeros_only_on_demand() {
    let fixture = Fixture::running("drops");
    let memory = fixture.memory();
    let report = to_value(DropsReport::read(&memory, false, false)).unwrap();
    let names: Vec<&str> = report["drops"].as_array().unwrap().iter().map(|d| d["reason"].as_str().unwrap()).collect();
    assert_eq!((&report["total"], names), (&json!(5), vec!["tcp_flags", "no_route"]));
    assert_eq!(report["drops"][0]["per_switcher"], json!([0, 3]));
    assert_eq!(DropsReport::read(&memory, true, false).drops.len(), DropReason::ALL.len());
    let text = DropsReport::read(&memory, false, true).text();
    assert!(text.ends_with("5 dropped, 0 refused with an answer\n"), "{text}");
    assert!(text.starts_with("REASON     DROPPED  ANSWERED  SWITCHER 0  SWITCHER 1  MEANING\n"), "{text}");
}

#[test]
fn refusals_with_an_answer_and_notices_stand_beside_the_drops() {
    let fixture = Fixture::running("refusals");
    fixture.switchers[0].head.refused[DropReason::NoBackend as usize].set(7);
    fixture.switchers[1].head.unanswered.set(2);
    fixture.switchers[1].head.notices[Notice::ReservedFlag as usize].set(3);
    fixture.control.head.own_calls.set(1);
    let report = DropsReport::read(&fixture.memory(), false, false);
    let json = to_value(&report).unwrap();
    let first = &json["drops"][0];
    assert_eq!([&first["reason"], &first["count"], &first["answered"]], [&json!("no_backend"), &json!(0), &json!(7)]);
    assert_eq!([&json["total"], &json["answered"], &json["unanswered"]], [5, 7, 2].map(|n| json!(n)).each_ref());
    let notices: Vec<_> = report.notices.iter().map(|row| (row.notice, row.count)).collect();
    assert_eq!(notices, [("reserved_flag", 3), ("own_call", 1)]);
    let text = report.text();
    assert!(text.contains("(2 of them unanswered: rate limit of the source), 7 refused"), "{text}");
    assert!(text.contains("\nown_call ") && text.contains("Configure [host]"), "{text}");
}

#[test]
fn status_tells_who_runs_and_whether_frames_balance() {
    let fixture = Fixture::running("status");
    let memory = fixture.memory();
    let before = Sample::take(&memory);
    fixture.switchers[0].head.turns.add(8);
    fixture.switchers[0].head.idle_turns.add(6);
    let report = StatusReport::read(&memory, &before, &Outside::default(), true, NOW_MS);
    let value = to_value(&report).unwrap();
    let table =
        |exact: bool| json!({ "live": 2, "active": 1, "inactive": 1, "exact": exact, "capacity": 1024, "evicted": 0 });
    let states: Vec<&Value> = value["processes"].as_array().unwrap().iter().map(|row| &row["state"]).collect();
    assert_eq!(states, ["running", "dead", "running", "absent"]);
    assert_eq!(value["processes"][2]["idle_percent"], 75.0);
    assert_eq!(value["processes"][2]["heartbeat_age_ms"], 20);
    assert_eq!(value["connection_table"], table(true));
    let estimate = StatusReport::read(&memory, &before, &Outside::default(), false, NOW_MS);
    assert_eq!(to_value(&estimate).unwrap()["connection_table"], table(false));
    let line = "connections: 1 active, 1 inactive of 1024 (by counters), evicted 0\n";
    assert!(estimate.text().contains(line), "{}", estimate.text());
    assert_eq!(value["traffic"]["difference"], 1);
    let problem = |at: usize, field: &str| value["problems"][at][field].as_str().unwrap_or_default().to_owned();
    let codes: Vec<String> = (0..4).map(|at| problem(at, "code")).collect();
    assert_eq!(codes, ["process_absent", "process_dead", "backend_down", ""]);
    assert_eq!((problem(0, "object"), problem(0, "severity")), ("switcher 1".into(), "not-serving".into()));
    assert_eq!(value["health"], "not-serving");
    let text = report.text();
    assert!(text.contains("! process_dead: control: shunt-control (pid "), "{text}");
    assert!(text.contains("eth0       0,1t           0  af_xdp  native-copy        10  640 B"), "{text}");
    assert!(text.contains("difference +1"), "{text}");
}

#[test]
fn status_and_drops_show_the_packet_stores() {
    let fixture = Fixture::running("host");
    fixture.with_host();
    let memory = fixture.memory();
    let report = StatusReport::read(&memory, &Sample::take(&memory), &Outside::default(), true, NOW_MS);
    let value = to_value(&report).unwrap();
    let to_host = json!({ "depth": 1, "capacity": 8, "packets": 12, "bytes": 1200, "dropped": 0 });
    let from_host = json!({ "depth": 0, "capacity": 8, "packets": 0, "bytes": 0, "dropped": 1 });
    let store = json!({ "switcher": 0, "to_host": to_host, "from_host": from_host, "wakes": 3, "sleeps": 0 });
    assert_eq!((&value["host"]["device"], &value["host"]["stores"][0]), (&json!("shunt0"), &store));
    assert_eq!(value["processes"][4]["process"], "ifdaemon");
    let text = report.text();
    assert!(text.contains("shunt0  to host           0    1/8       12  1.2 kB        0         3       0"), "{text}");
    assert!(text.contains("device shunt0 without offloads: reads 0, writes 0, host_ipv6 4\n"), "{text}");
    assert!(text.contains("shunt-ifdaemon has not started: packets of the box's own programs wait"), "{text}");
    let drops = to_value(DropsReport::read(&memory, false, false)).unwrap();
    assert_eq!((&drops["drops"][0]["reason"], &drops["total"]), (&json!("host_ipv6"), &json!(9)));
}

#[test]
fn a_service_of_the_host_has_no_backends_and_is_up() {
    let fixture = Fixture::running("host-service");
    let services = fixture.control.generations[1].services;
    let record: ServiceRecord = services[0].load();
    services[0].store(&ServiceRecord { target: Target::Host.code(), slots_count: 0, members_count: 0, ..record });
    let memory = fixture.memory();
    let report = ServicesReport::read(&memory, &Configuration::read(&memory.control).unwrap());
    let row = &to_value(&report).unwrap()["services"][0];
    assert_eq!((&row["target"], &row["mode"], &row["state"]), (&json!("host"), &json!("host"), &json!("up")));
}

/// Every name in a JSON value.
fn names(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => {
            map.iter().flat_map(|(name, value)| [vec![name.clone()], names(value)].concat()).collect()
        }
        Value::Array(values) => values.iter().flat_map(names).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn the_help_knows_every_field_of_json() {
    let fixture = Fixture::running("fields");
    fixture.with_host();
    let memory = fixture.memory();
    let configuration = Configuration::read(&memory.control).unwrap();
    let filter = Filter { limit: 50, ..Filter::default() };
    let reports = [
        (
            fields::STATUS,
            to_value(StatusReport::read(&memory, &Sample::take(&memory), &Outside::default(), false, NOW_MS)).unwrap(),
        ),
        (fields::SERVICES, to_value(ServicesReport::read(&memory, &configuration)).unwrap()),
        (fields::BACKENDS, to_value(BackendsReport::read(&memory, &configuration, &HashMap::new(), NOW_MS)).unwrap()),
        (
            fields::CONNECTIONS,
            to_value(ConnectionsReport::read(&memory, &configuration, &filter, NOW_MS).unwrap()).unwrap(),
        ),
        (fields::DROPS, to_value(DropsReport::read(&memory, true, false)).unwrap()),
    ];
    for (help, value) in reports {
        let words: Vec<&str> = help.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
        let unknown: Vec<String> = names(&value).into_iter().filter(|name| !words.contains(&name.as_str())).collect();
        assert!(unknown.is_empty(), "{unknown:?} in none of: {help}");
    }
}

/// The lines that are titles of tables: words in capitals, four at least.
fn titles(text: &str) -> Vec<String> {
    let is_title = |word: &str| word.chars().all(|c| c.is_ascii_uppercase() || "/-".contains(c));
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .filter(|words| words.len() >= 4 && words.iter().all(|word| is_title(word)))
        .map(|words| words.join(" "))
        .collect()
}

#[test]
fn the_readme_shows_the_tables_as_they_are() {
    let fixture = Fixture::running("readme");
    fixture.control.loads.set(BackendId(0), &LoadRecord { reported_ms: NOW_MS, ..LoadRecord::default() });
    let memory = fixture.memory();
    let configuration = Configuration::read(&memory.control).unwrap();
    let filter = Filter { limit: 50, ..Filter::default() };
    let whole = [
        StatusReport::read(&memory, &Sample::take(&memory), &Outside::default(), false, NOW_MS).text(),
        ServicesReport::read(&memory, &configuration).text(),
        ConnectionsReport::read(&memory, &configuration, &filter, NOW_MS).unwrap().text(),
    ];
    let backends = BackendsReport::read(&memory, &configuration, &HashMap::new(), NOW_MS).text();
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let shown = titles(&readme);
    let real = titles(&whole.concat());
    assert_eq!(real.len(), 4, "{real:?}");
    assert!(real.iter().all(|title| shown.contains(title)), "README.md shows {shown:#?}, not all of {real:#?}");
    // Of the backends' table, it shows a part.
    let columns = titles(&backends);
    let is_real = |title: &&String| real.contains(title) || columns[0].contains(title.as_str());
    assert!(shown.iter().all(|title| is_real(&title)), "README.md shows {shown:#?}, which are not all real");
}

#[test]
fn nothing_published_is_said() {
    let fixture = Fixture::empty("unpublished");
    let memory = fixture.memory();
    assert!(matches!(Configuration::read(&memory.control), Err(ConfigurationError::NothingPublished)));
    let report = StatusReport::read(&memory, &Sample::take(&memory), &Outside::default(), false, NOW_MS);
    assert!(report.text().contains("balanced"), "{}", report.text());
    assert!(report.text().contains("! nothing_published: configuration: "), "{}", report.text());
}

#[test]
fn a_declining_backend_and_a_rule_without_any_are_problems() {
    let fixture = Fixture::running("declined");
    let generation = &fixture.control.generations[1];
    let told = |code: &str| {
        let memory = fixture.memory();
        let report = StatusReport::read(&memory, &Sample::take(&memory), &Outside::default(), false, NOW_MS);
        report.text().lines().find(|line| line.starts_with(&format!("! {code}: "))).map(str::to_owned)
    };
    assert_eq!((told("backend_declined"), told("service_without_backend")), (None, None));
    generation.members[0].store(&MemberRecord { backend: 0, weight: 2, effective: 0, factor_permille: 0 });
    assert!(told("backend_declined").is_some_and(|line| line.contains(" backend b1: its agent says drain or down")));
    generation.members[1].store(&MemberRecord { backend: 1, weight: 1, effective: 0, factor_permille: 0 });
    assert!(told("backend_down").is_some_and(|line| line.contains(" backend b2: ")), "told once, as down");

    let record: ServiceRecord = generation.services[0].load();
    generation.services[0].store(&ServiceRecord { classes_count: 2, ..record });
    let class = |first, slots_count| ClassRecord {
        start: Address::from_v4([first, 0, 0, 0]),
        slots_count,
        ..ClassRecord::default()
    };
    generation.classes[0].store(&class(0, 4));
    generation.classes[1].store(&class(10, 0));
    let line = told("service_without_backend").expect("a problem");
    assert!(line.contains("! service_without_backend: service web: no back-end of a rule takes"), "{line}");
    assert!(line.contains("its clients, as 10.0.0.0, are refused"), "{line}");
    generation.classes[1].store(&class(10, 4));
    assert_eq!(told("service_without_backend"), None);
}

#[test]
fn a_recent_unfilled_checksum_is_told_by_interface() {
    let fixture = Fixture::running("unfilled-sum");
    fixture.switchers[1].interfaces[1].unfilled_ms.set(NOW_MS - 2500);
    let memory = fixture.memory();
    let text = StatusReport::read(&memory, &Sample::take(&memory), &Outside::default(), false, NOW_MS).text();
    assert!(text.contains("! checksum_unfilled: interface eth1: "), "{text}");
}

#[test]
fn absent_and_foreign_memory_is_refused_with_advice() {
    let absent: Instance = format!("t-{}-none", std::process::id()).parse().unwrap();
    let error = Memory::attach(&absent).err().unwrap();
    assert!(matches!(error, MemoryError::NotRunning { .. }), "{error}");
    assert!(error.to_string().contains("is not running"), "{error}");

    let fixture = Fixture::empty("version");
    let file = std::fs::OpenOptions::new().write(true).open(fixture.path("keeper")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[99], 8).unwrap(); // the layout version's word
    let error = Memory::attach(&fixture.instance).err().unwrap().to_string();
    let expected = format!("layout version is 99, expected {}", shunt_shmlayout::header::VERSION);
    assert!(error.contains(&expected), "{error}");
}

#[test]
fn regions_made_anew_are_attached_anew() {
    let fixture = Fixture::running("anew");
    let mut memory = fixture.memory();
    memory.refresh().unwrap();
    assert_eq!(memory.keeper.head.pid.get(), u64::from(std::process::id()));
    std::fs::remove_file(fixture.path("keeper")).unwrap();
    let keeper = KeeperShape { interfaces: 2, switchers: 2, ports: 8, reserved: [0; 5] };
    let name = region(&fixture.instance, "keeper");
    let _made = KeeperRegion::create(&name, &keeper, |view| view.head.pid.set(5)).unwrap();
    memory.refresh().unwrap();
    assert_eq!(memory.keeper.head.pid.get(), 5);
}
