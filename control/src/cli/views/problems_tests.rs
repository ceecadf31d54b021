//! Each problem alone, beside an instance of which nothing is wrong.

use super::*;
use crate::admin::protocol::FileStatus;

fn process(process: &'static str, number: Option<usize>) -> ProcessRow {
    ProcessRow {
        process,
        number,
        pid: Some(7),
        state: ProcessState::Running,
        heartbeat_age_ms: Some(3),
        cpu: None,
        epoch: if process == "ifdaemon" { 0 } else { 5 },
        idle_percent: None,
        generation: None,
    }
}

/// An instance, to be spoiled.
struct Instance {
    processes: Vec<ProcessRow>,
    epoch: u64,
    services: Vec<ServiceState>,
    backends_down: Vec<String>,
    backends_declined: Vec<String>,
    connection_table: ConnectionTableRow,
    traffic: TrafficRow,
    unfilled: Vec<Unfilled>,
    configuration: Option<ConfigurationFile>,
}

fn file_status() -> FileStatus {
    FileStatus { file: "/etc/shunt.toml".into(), refusal: None, unsaved: false, missing_keys: Vec::new() }
}

/// A file without a fault.
fn file(status: FileStatus) -> Option<ConfigurationFile> {
    Some(ConfigurationFile { status, fault: None })
}

impl Instance {
    fn healthy() -> Self {
        let processes = vec![
            process("keeper", None),
            process("control", None),
            process("switcher", Some(0)),
            process("switcher", Some(1)),
            process("ifdaemon", None),
        ];
        Self {
            processes,
            epoch: 5,
            services: vec![ServiceState { name: "web".into(), served: Served::All }],
            backends_down: Vec::new(),
            backends_declined: Vec::new(),
            connection_table: ConnectionTableRow { live: 899, exact: false, capacity: 1000, evicted: 0 },
            traffic: traffic(64, 64),
            unfilled: Vec::new(),
            configuration: file(file_status()),
        }
    }

    fn problems(&self) -> Vec<Problem> {
        problems(&Observed {
            processes: &self.processes,
            epoch: self.epoch,
            services: &self.services,
            backends_down: &self.backends_down,
            backends_declined: &self.backends_declined,
            connection_table: &self.connection_table,
            traffic: &self.traffic,
            frames_in_hand: 128,
            unfilled: &self.unfilled,
            configuration: self.configuration.as_ref(),
        })
    }
}

fn traffic(lowest_difference: i64, difference: i64) -> TrafficRow {
    TrafficRow { received: 0, sent: 0, dropped: 0, passed: 0, answered: 0, difference, lowest_difference }
}

/// The one problem of an instance that `spoil` has spoiled.
fn only(spoil: impl FnOnce(&mut Instance)) -> Problem {
    let mut instance = Instance::healthy();
    spoil(&mut instance);
    let problems = instance.problems();
    let [problem] = problems.as_slice() else { panic!("{problems:#?}") };
    assert!(problem.line().ends_with(&format!(" -> {}\n", problem.mend)) && !problem.mend.is_empty());
    problem.clone()
}

fn says(problem: &Problem, code: &str, severity: Severity, object: &str) {
    assert_eq!((problem.code, problem.severity, problem.object.as_str()), (code, severity, object));
}

#[test]
fn a_healthy_instance_has_no_problem() {
    assert_eq!(Instance::healthy().problems(), []);
    assert_eq!(worst(&[]), None);
}

#[test]
fn a_process_that_does_not_run_is_told_by_how_it_is() {
    let spoiled = |at: usize, state| only(|instance| instance.processes[at].state = state);
    let dead = spoiled(0, ProcessState::Dead);
    says(&dead, "process_dead", Severity::Degraded, "keeper");
    assert!(dead.text.starts_with("shunt-keeper (pid 7) is not running: "), "{}", dead.text);
    says(&spoiled(1, ProcessState::Absent), "process_absent", Severity::Degraded, "control");
    says(&spoiled(1, ProcessState::Silent), "process_silent", Severity::Degraded, "control");
    let stopped = spoiled(3, ProcessState::Silent);
    says(&stopped, "process_silent", Severity::NotServing, "switcher 1");
    assert!(stopped.text.contains("has not turned for 2 s"), "{}", stopped.text);
    says(&spoiled(2, ProcessState::Dead), "process_dead", Severity::NotServing, "switcher 0");
    says(&spoiled(4, ProcessState::Dead), "process_dead", Severity::NotServing, "ifdaemon");
}

#[test]
fn epoch_0_is_told_once() {
    let problem = only(|instance| {
        instance.epoch = 0;
        instance.processes.iter_mut().for_each(|row| row.epoch = 0);
    });
    says(&problem, "nothing_published", Severity::NotServing, "configuration");
}

#[test]
fn who_has_not_taken_the_newest_epoch_is_told_if_it_lives() {
    let behind = only(|instance| instance.processes[3].epoch = 4);
    says(&behind, "epoch_not_taken", Severity::Degraded, "switcher 1");
    says(&only(|instance| instance.processes[0].epoch = 4), "epoch_not_taken", Severity::Degraded, "keeper");
    let dead = only(|instance| {
        instance.processes[3].epoch = 4;
        instance.processes[3].state = ProcessState::Dead;
    });
    says(&dead, "process_dead", Severity::NotServing, "switcher 1");
    let mut ahead = Instance::healthy();
    ahead.processes[2].epoch = 6;
    assert_eq!(ahead.problems(), []);
}

#[test]
fn services_and_backends_are_told_by_name() {
    let service = only(|instance| instance.services[0].served = Served::Nobody);
    says(&service, "service_without_backend", Severity::NotServing, "service web");
    let rule = only(|instance| instance.services[0].served = Served::Not("10.1.0.0".into()));
    says(&rule, "service_without_backend", Severity::NotServing, "service web");
    assert!(rule.text.contains("its clients, as 10.1.0.0, are refused"), "{}", rule.text);
    let backend = only(|instance| instance.backends_down.push("b2".into()));
    says(&backend, "backend_down", Severity::Degraded, "backend b2");
    let declined = only(|instance| instance.backends_declined.push("b2".into()));
    says(&declined, "backend_declined", Severity::Degraded, "backend b2");
}

#[test]
fn the_connection_table_is_told_from_nine_tenths_on() {
    let problem = only(|instance| instance.connection_table.live = 900);
    says(&problem, "table_nearly_full", Severity::Degraded, "connection table");
    assert!(problem.text.contains("900 of 1000 connections (90 %)"), "{}", problem.text);
}

#[test]
fn unfilled_checksums_are_told_while_they_are_recent() {
    let with = |age_ms, has_clients| {
        let unfilled = Unfilled { interface: "eth1".into(), age_ms, has_clients };
        move |instance: &mut Instance| instance.unfilled.push(unfilled)
    };
    let problem = only(with(1500, false));
    says(&problem, "checksum_unfilled", Severity::Degraded, "interface eth1");
    assert!(problem.text.contains("1.5s ago"), "{problem:?}");
    let mend = "where the senders are, on the other end of eth1: ethtool -K PEER tx off; if eth1 is a virtio device: \
                ethtool -K eth1 rx off";
    assert_eq!(problem.mend, mend);
    let crafted = only(with(1500, true));
    says(&crafted, "checksum_unfilled", Severity::Notice, "interface eth1");
    assert_eq!(worst(&[crafted]), None, "any client could keep the exit status from 0");
    let mut past = Instance::healthy();
    with(UNFILLED_RECENT_MS, false)(&mut past);
    assert_eq!(past.problems(), []);
}

#[test]
fn the_file_and_the_last_reload_are_told_apart() {
    let two = || Some("/etc/shunt.toml:3: a\n/etc/shunt.toml:4: b".to_owned());
    let faulty = || Some(ConfigurationFile { status: file_status(), fault: two() });
    let fault = only(|instance| instance.configuration = faulty());
    says(&fault, "configuration_refused", Severity::Degraded, "/etc/shunt.toml");
    assert!(fault.text.ends_with(" with this file: 3: a (and 1 more)"), "{}", fault.text);
    let refusal = only(|instance| instance.configuration = file(FileStatus { refusal: two(), ..file_status() }));
    says(&refusal, "reload_refused", Severity::Degraded, "/etc/shunt.toml");
    let missing_keys = vec!["/etc/shunt/key cannot be read".to_owned()];
    let key = only(|instance| instance.configuration = file(FileStatus { missing_keys, ..file_status() }));
    says(&key, "key_missing", Severity::Degraded, "/etc/shunt.toml");
    let unsaved = only(|instance| instance.configuration = file(FileStatus { unsaved: true, ..file_status() }));
    says(&unsaved, "configuration_unsaved", Severity::Degraded, "/etc/shunt.toml");
    let mut silent = Instance::healthy();
    silent.configuration = None;
    assert_eq!(silent.problems(), []);
}

#[test]
fn frames_that_nothing_explains_are_told() {
    says(&only(|instance| instance.traffic = traffic(129, 500)), "frames_unaccounted", Severity::Degraded, "traffic");
    says(&only(|instance| instance.traffic = traffic(-3, -1)), "frames_unaccounted", Severity::Degraded, "traffic");
    let mut busy = Instance::healthy();
    busy.traffic = traffic(-400, 5000); // so many came while the counters were read
    assert_eq!(busy.problems(), []);
}

#[test]
fn the_worst_comes_first_and_decides() {
    let mut instance = Instance::healthy();
    instance.backends_down.push("b2".into());
    instance.services[0].served = Served::Nobody;
    let problems = instance.problems();
    assert_eq!(
        problems.iter().map(|problem| problem.code).collect::<Vec<_>>(),
        ["service_without_backend", "backend_down"]
    );
    assert_eq!(worst(&problems), Some(Severity::NotServing));
    assert_eq!(worst(&problems[1..]), Some(Severity::Degraded));
}
