//! Each problem alone, beside an instance of which nothing is wrong.

use super::*;
use shunt_protocol::admin::{FileStatus, RefusedReports, ReportPath, SilentAgent, UnansweredBackend};

fn process(process: Process, number: Option<usize>) -> ProcessRow {
    ProcessRow {
        process,
        number,
        pid: Some(7),
        state: ProcessState::Running,
        heartbeat_age_ms: Some(3),
        cpu: None,
        epoch: if process == Process::Ifdaemon { 0 } else { 5 },
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
    backends_unreachable: Vec<UnreachableBackend>,
    connection_table: ConnectionTableRow,
    traffic: TrafficRow,
    links: Vec<FaultyLink>,
    host: Option<FaultyHost>,
    unfilled: Vec<Unfilled>,
    configuration: Option<Result<ConfigurationFile, AdminError>>,
}

fn file_status() -> FileStatus {
    let (missing_keys, reports, unanswered) = (Vec::new(), ReportPath::default(), Vec::new());
    FileStatus { file: "/etc/shunt.toml".into(), refusal: None, unsaved: false, missing_keys, reports, unanswered }
}

/// A file without a fault.
fn file(status: FileStatus) -> Option<Result<ConfigurationFile, AdminError>> {
    Some(Ok(ConfigurationFile { status, fault: None }))
}

impl Instance {
    fn healthy() -> Self {
        let processes = vec![
            process(Process::Keeper, None),
            process(Process::Control, None),
            process(Process::Switcher, Some(0)),
            process(Process::Switcher, Some(1)),
            process(Process::Ifdaemon, None),
        ];
        Self {
            processes,
            epoch: 5,
            services: vec![ServiceState { name: "web".into(), served: Served::All }],
            backends_down: Vec::new(),
            backends_declined: Vec::new(),
            backends_unreachable: Vec::new(),
            connection_table: table(899),
            traffic: traffic(64, 64),
            links: Vec::new(),
            host: None,
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
            backends_unreachable: &self.backends_unreachable,
            connection_table: &self.connection_table,
            traffic: &self.traffic,
            frames_in_hand: 128,
            links: &self.links,
            outside: None,
            host: self.host.as_ref(),
            unfilled: &self.unfilled,
            configuration: self.configuration.as_ref(),
        })
    }
}

fn table(live: u64) -> ConnectionTableRow {
    ConnectionTableRow { live, active: live, inactive: 0, exact: false, capacity: 1000, evicted: 0 }
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
fn an_interface_that_carries_no_packets_is_told_with_its_remedy() {
    use super::links::LinkFault;
    for (fault, code, mend) in [
        (LinkFault::Down, "interface_down", "ip link set dev eth0 up"),
        (LinkFault::NoCarrier, "interface_down", "connect it"),
        (LinkFault::Gone, "interface_gone", "make it again, then stop Shunt"),
        (LinkFault::Replaced, "interface_gone", "stop Shunt and start it again"),
    ] {
        let problem = only(|instance| instance.links.push(FaultyLink { interface: "eth0".into(), fault }));
        says(&problem, code, Severity::NotServing, "interface eth0");
        assert!(problem.mend.starts_with(mend), "{}", problem.mend);
    }
}

#[test]
fn a_pseudo_interface_that_carries_nothing_is_told_with_its_remedy() {
    use super::pseudo::HostFault;
    for (fault, said, mend) in [
        (HostFault::Gone, "shunt0 was removed", "kill -9 the keeper"),
        (HostFault::Down, "shunt0 is set down", "kill -9 the keeper"),
        (HostFault::NoAddress, "shunt0 has no address", "kill -9 the keeper"),
        (HostFault::Diverted([198, 18, 0, 101].into()), "what is sent from 198.18.0.101", "kill -9 the keeper"),
    ] {
        let problem = only(|instance| instance.host = Some(FaultyHost { device: "shunt0".into(), fault }));
        says(&problem, "host_down", Severity::NotServing, "pseudo-interface shunt0");
        assert!(problem.text.starts_with(said) && problem.mend.starts_with(mend), "{problem:?}");
    }
}

#[test]
fn a_service_without_a_way_to_any_backend_serves_nobody() {
    let problem = only(|instance| instance.services[0].served = Served::Unreached);
    says(&problem, "service_without_backend", Severity::NotServing, "service web");
    assert!(problem.text.contains("no packet reaches any"), "{}", problem.text);
}

#[test]
fn a_backend_that_no_packet_reaches_is_told_with_what_is_missing_and_not_as_unanswered() {
    let unresolved = WayFault::Unresolved { next_hop: "198.18.1.11".into(), interface: "eth1".into() };
    for (fault, said, mend) in [
        (WayFault::NoRoute, "there is no route to it", "give one of Shunt's interfaces an address"),
        (unresolved, "its next hop 198.18.1.11 on eth1 has no Ethernet address", "see that the next hop runs"),
    ] {
        let problem = only(|instance| {
            let silent = UnansweredBackend { name: "b1".into(), connections: 9, age_ms: 15_000, has_answered: false };
            instance.configuration = file(FileStatus { unanswered: vec![silent], ..file_status() });
            instance.backends_unreachable.push(UnreachableBackend { name: "b1".into(), fault });
        });
        says(&problem, "backend_unreachable", Severity::Degraded, "backend b1");
        assert!(problem.text.contains(said) && problem.mend.starts_with(mend), "{problem:?}");
    }
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
    let faulty = || Some(Ok(ConfigurationFile { status: file_status(), fault: two() }));
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
    let mut absent = Instance::healthy();
    absent.configuration = None;
    assert_eq!(absent.problems(), []);
}

#[test]
fn a_control_that_runs_and_does_not_answer_is_told() {
    let instance = shunt_process::Instance::default;
    for (error, said, mend) in [
        (AdminError::NotRunning(instance()), "nobody listens at /run/shunt/shunt", "kill -9 control's pid"),
        (AdminError::Unintelligible(instance()), "answered something else than expected", "install one version"),
        (AdminError::Silent { instance: instance(), pid: Some(7) }, "is too busy to answer", "if it stays so"),
        (AdminError::Denied(instance()), "is open to root only", "run it with sudo"),
    ] {
        let problem = only(|instance| instance.configuration = Some(Err(error)));
        says(&problem, "control_unanswered", Severity::Degraded, "control");
        assert!(problem.text.contains(said) && problem.mend.starts_with(mend), "{problem:?}");
    }
}

fn with_reports(reports: ReportPath) -> Vec<Problem> {
    Instance { configuration: file(FileStatus { reports, ..file_status() }), ..Instance::healthy() }.problems()
}

fn silent_agent(has_reported: bool) -> SilentAgent {
    SilentAgent { name: "a".into(), backends: vec!["b1".into(), "b2".into()], age_ms: 12_000, has_reported }
}

fn refused_reports(agent: Option<&str>, reason: &str) -> RefusedReports {
    let (agent, reason) = (agent.map(str::to_owned), reason.to_owned());
    RefusedReports { source: "198.18.1.9".into(), agent, reason, count: 39, age_ms: 50 }
}

#[test]
fn an_address_that_control_cannot_listen_at_is_told_instead_of_the_silence_that_follows() {
    let not_listening = Some(("198.18.9.9:7946".to_owned(), "Cannot assign requested address".to_owned()));
    let reports = ReportPath { not_listening, silent: vec![silent_agent(false)], refused: Vec::new() };
    let [problem] = <[Problem; 1]>::try_from(with_reports(reports)).unwrap();
    says(&problem, "feedback_not_listening", Severity::Degraded, "feedback.listen 198.18.9.9:7946");
    assert!(problem.text.contains("Cannot assign requested address"), "{}", problem.text);
}

#[test]
fn an_agent_that_never_started_or_was_killed_is_told_with_its_backends() {
    for (has_reported, how) in [(false, "no report in the 12.0s"), (true, "its last report came 12.0s ago")] {
        let reports = ReportPath { silent: vec![silent_agent(has_reported)], ..ReportPath::default() };
        let [problem] = <[Problem; 1]>::try_from(with_reports(reports)).unwrap();
        says(&problem, "agent_silent", Severity::Degraded, "agent a");
        assert!(problem.text.starts_with(how) && problem.text.contains("b1, b2"), "{}", problem.text);
    }
}

#[test]
fn refused_reports_are_told_with_source_reason_and_remedy() {
    for (agent, reason, mend) in
        [("a", "forged", "copy the agent's key file"), ("z", "unknown_agent", "correct `name` in the agent's file")]
    {
        let refused = vec![refused_reports(Some(agent), reason)];
        let missed = ReportPath { silent: vec![silent_agent(false)], refused: refused.clone(), not_listening: None };
        let problem = with_reports(missed).pop().unwrap();
        says(&problem, "reports_refused", Severity::Degraded, &format!("reports from 198.18.1.9 as agent {agent}"));
        assert!(
            problem.text.starts_with(&format!("39 refused, the last one 50ms ago: {reason} (")),
            "{}",
            problem.text
        );
        assert!(problem.mend.starts_with(mend), "{}", problem.mend);
        // A stranger's datagrams call nobody while the agents are heard.
        let heard = with_reports(ReportPath { refused, ..ReportPath::default() });
        assert_eq!((heard[0].severity, worst(&heard)), (Severity::Notice, None));
    }
}

#[test]
fn reports_that_only_the_agent_can_have_sent_degrade_alone() {
    for reason in ["not_its_backend", "never_listening", "other_port", "absurd", "epoch_ahead"] {
        let refused = vec![refused_reports(Some("a"), reason)];
        let problems = with_reports(ReportPath { refused, ..ReportPath::default() });
        assert_eq!(worst(&problems), Some(Severity::Degraded), "{reason}");
    }
    let refused = vec![refused_reports(None, "version")];
    let problems = with_reports(ReportPath { refused, ..ReportPath::default() });
    says(&problems[0], "reports_refused", Severity::Notice, "reports from 198.18.1.9");
}

#[test]
fn many_problems_of_one_code_are_cut_in_the_text() {
    let mut instance = Instance::healthy();
    instance.backends_down = (0..500).map(|n| format!("b{n}")).collect();
    instance.backends_declined.push("c".into());
    let problems = instance.problems();
    let text = lines(&problems);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((problems.len(), lines.len()), (501, MOST_LINES + 2));
    assert!(lines[9].starts_with("! backend_down: backend b9: "), "{}", lines[9]);
    assert_eq!(lines[10], "! backend_down: and 490 more (`shunt backends` shows all)");
    assert!(lines[11].starts_with("! backend_declined: backend c: "), "{}", lines[11]);
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

#[test]
fn a_backend_that_answers_nobody_is_told_with_the_way_out() {
    let silent = |has_answered| {
        let it = UnansweredBackend { name: "b1".into(), connections: 12, age_ms: 15_000, has_answered };
        let file = file(FileStatus { unanswered: vec![it], ..file_status() });
        only(|instance| instance.configuration = file)
    };
    let problem = silent(false);
    assert_eq!(
        (problem.code, problem.severity, &*problem.object),
        ("backend_unanswered", Severity::Degraded, "backend b1")
    );
    assert!(
        problem.text.contains("none of the last 12 connections") && problem.text.contains("nor any before"),
        "{problem:?}"
    );
    assert!(problem.mend.contains("default route") && problem.mend.contains("as_client = true"), "{problem:?}");
    let answered_before = silent(true);
    assert!(!answered_before.text.contains("nor any before"));
    assert_eq!(answered_before.severity, Severity::Notice, "anybody can forge addresses that a backend's filter drops");
}

#[test]
fn every_code_is_documented_and_no_other() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows =
        page.split("| code | severity |").nth(1).unwrap().lines().skip(2).take_while(|line| line.starts_with('|'));
    let first = rows.map(|row| row.split('|').nth(1).unwrap());
    let documented: Vec<&str> = first.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert_eq!(documented, CODES);
    let help = super::super::fields::STATUS.split("Codes of problems:").nth(1).unwrap();
    let words = help.split(|c: char| !c.is_ascii_lowercase() && c != '_').filter(|word| word.contains('_'));
    let told: std::collections::BTreeSet<&str> = words.collect();
    assert_eq!(told, CODES.iter().copied().collect(), "shunt status --help");
}
