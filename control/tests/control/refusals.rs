//! What control does with a configuration that can't be used: nothing of it, whatever is wrong, and all else goes on.

use std::net::UdpSocket;
use std::sync::atomic::AtomicU64;

use shunt_report::{AgentKey, LoadReport, seal};
use shunt_shmlayout::report_outcome::ReportOutcome;
use shunt_shmlayout::sync::Ordering;

use crate::lab::{Lab, REPORTS, Running, until};
use crate::{content, flags, resolves_what_a_switcher_wants, settled_content};

const RELOAD: &str = "{\"command\":\"reload\"}";
const CONFIGURATION: &str = "{\"command\":\"configuration\"}";
const ALL_WELL: &str = "\"refusal\":null,\"unsaved\":false,\"missing_keys\":[],";
const BACKENDS: &str = "{\"command\":\"backends\"}";

/// For each step of a reload a file that fails there, and what is said.
fn bad_files(good: &str) -> Vec<(String, &'static str)> {
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    let clients: Vec<String> = (0..40).map(|n| format!("\"198.18.6.{}\"", 2 * n)).collect();
    let rule = format!("mode = \"nat\"\nrule = [{{ clients = [{}], backends = [\"closed\"] }}]", clients.join(","));
    let backends: String = (1..=12)
        .map(|n| format!("[[service.backend]]\nname = \"more{n}\"\naddress = \"198.18.4.2:{}\"\n", 9000 + n))
        .collect();
    let more = with("health.kind = \"none\"", "health.kind = \"none\"\nslots = 1021");
    let more = more.replacen("[feedback]", &format!("{backends}[feedback]"), 1);
    vec![
        (good[..good.len() / 2].to_owned(), "shunt.toml:"),
        (with("mode = \"nat\"", "mode = \"cat\""), "shunt.toml:16: service.dead.mode"),
        (with("routes = 64", "routes = 65"), "limits.routes: differs from what Shunt was started with"),
        (with("mode = \"nat\"", &rule), "shunt.toml:17: service.dead.rule: the rules of all services tell"),
        (with("/key\"", "/nokey\""), "agent.agent.key_file: "),
        (more, "finds no place in the endpoint table; raise limits.backends"),
    ]
}

/// Each is refused at another step; after each, everything goes on by the configuration before.
pub fn bad_reloads_change_nothing(lab: &Lab) {
    let good = std::fs::read_to_string(lab.path()).unwrap();
    for (number, (bad, said)) in (0..).zip(bad_files(&good)) {
        let before = settled_content(lab);
        std::fs::write(lab.path(), bad).unwrap();
        let answer = lab.order(RELOAD);
        assert!(answer.starts_with("{\"ok\":false") && answer.contains(said), "not {said}: {answer}");
        assert_eq!(lab.control.head.reloads_refused.get(), number + 1);
        assert!(lab.order(CONFIGURATION).contains(said), "told to the status");
        assert_eq!(content(lab), before, "{said}");
        goes_on(lab, 10 + number as u8);
    }
    std::fs::write(lab.path(), good).unwrap();
    let answer = lab.order_in_force(RELOAD);
    assert!(answer.starts_with("{\"ok\":true"), "{answer}");
    assert!(lab.order(CONFIGURATION).contains(ALL_WELL), "{}", lab.order(CONFIGURATION));
}

/// Health checks, drains, agents' reports and neighbours; the peer gets an address ending in `last`, which it hasn't yet.
fn goes_on(lab: &Lab, last: u8) {
    let listener = lab.listen(9);
    until("a backend that comes up", || lab.service(1).filter(|service| service.slots_count != 0));
    drop(listener);
    until("a backend that goes down", || lab.service(1).filter(|service| service.slots_count == 0));
    for (command, drained) in [("drain", true), ("enable", false)] {
        let answer = lab.order_in_force(&format!("{{\"command\":\"{command}\",\"backends\":[\"b2\"]}}"));
        assert!(answer.starts_with("{\"ok\":true"), "{answer}");
        assert_eq!(flags(lab, 8001).unwrap() & 2 != 0, drained);
    }
    is_reported_to(lab);
    lab.at_peer(&format!("ip addr add 198.18.4.{last}/24 dev publish-b"));
    resolves_what_a_switcher_wants(lab, last);
}

/// A report of a new run of the agent is accepted.
fn is_reported_to(lab: &Lab) {
    static RUN: AtomicU64 = AtomicU64::new(2);
    let agent = "agent".parse().unwrap();
    let boot_epoch = RUN.fetch_add(1, Ordering::Relaxed);
    let report = LoadReport { agent, boot_epoch, sequence: 1, period_ms: 20, loads: Vec::new() };
    let accepted = || lab.control.reports[ReportOutcome::Accepted as usize].get();
    let before = accepted();
    let datagram = seal(&report, &AgentKey::new(&[7; 32]).unwrap()).unwrap();
    UdpSocket::bind("198.18.4.1:0").unwrap().send_to(&datagram, REPORTS).unwrap();
    until("an accepted report", || (accepted() > before).then_some(()));
}

/// Control was killed, and the file on disk is bad: its successor goes on by what was accepted, and takes the next good
/// file.
pub fn goes_on_beside_a_bad_file(lab: &Lab) -> Running {
    let good = std::fs::read_to_string(lab.path()).unwrap();
    for bad in [&good[..good.len() / 3], "", &good.replacen("routes = 64", "routes = 65", 1)] {
        std::fs::write(lab.path(), bad).unwrap();
        let control = lab.start();
        assert!(lab.order(CONFIGURATION).contains("\"refusal\":\""));
        goes_on_once(lab);
        assert!(lab.order(RELOAD).starts_with("{\"ok\":false"), "the file is as bad as before");
        drop(control);
    }
    std::fs::remove_file(lab.path()).unwrap();
    std::fs::remove_file(lab.files.folder.path().join("key")).unwrap();
    let control = lab.start();
    let told = lab.order(CONFIGURATION);
    assert!(told.contains("\"refusal\":\"") && told.contains("/key cannot be read"), "the key is missing, too: {told}");
    goes_on_once(lab);
    lab.configure(&["b1", "b2"]);
    assert!(lab.order_in_force(RELOAD).starts_with("{\"ok\":true"));
    assert!(lab.order(CONFIGURATION).contains(ALL_WELL), "{}", lab.order(CONFIGURATION));
    is_reported_to(lab);
    control
}

/// A successor says why a backend has been down since before it started; its checks and orders work.
fn goes_on_once(lab: &Lab) {
    let told = lab.order(BACKENDS);
    assert!(told.contains("\"health\":\"dead: 198.18.4.2:9: ") && told.contains(", for "), "{told}");
    let listener = lab.listen(9);
    until("a backend that comes up", || lab.service(1).filter(|service| service.slots_count != 0));
    drop(listener);
    until("a backend that goes down", || lab.service(1).filter(|service| service.slots_count == 0));
    let answer = lab.order_in_force("{\"command\":\"drain\",\"backends\":[\"b2\"]}");
    assert!(answer.starts_with("{\"ok\":true"), "{answer}");
    assert!(lab.order_in_force("{\"command\":\"enable\",\"backends\":[\"b2\"]}").starts_with("{\"ok\":true"));
    has_noted(lab);
}

/// What a check found is noted for a successor.
pub fn has_noted(lab: &Lab) {
    until("notes of health", || {
        let notes = std::fs::read_to_string(shunt_process::health_notes(&lab.files.instance)).ok()?;
        notes.contains("\"up\":false").then_some(())
    });
}

/// A first start that can't publish ends, and says why; so does one beside a bad file, for nothing runs that could go on.
pub fn refuses_to_serve_nothing(lab: &mut Lab) {
    let good = std::fs::read_to_string(lab.path()).unwrap();
    lab.without_publication();
    let is_refused = |said: &str| !said.contains("differs from") && !said.contains("key_file");
    for (bad, said) in bad_files(&good).into_iter().filter(|(_, said)| is_refused(said)) {
        std::fs::write(lab.path(), bad).unwrap();
        let output = lab.command().output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{text}");
        assert!(text.contains(said), "not {said}: {text}");
    }
    std::fs::write(lab.path(), good.replacen("/key\"", "/nokey\"", 1)).unwrap();
    let _control = lab.start();
    let told = lab.order(CONFIGURATION);
    assert!(
        told.contains("\"refusal\":null") && told.contains("/nokey cannot be read"),
        "starts without a key: {told}"
    );
}
