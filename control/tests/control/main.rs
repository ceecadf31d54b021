//! The whole process, beside memory that the test makes as the keeper would, in a network namespace of its own. Without
//! root it says so and passes.

mod lab;
mod refusals;

use std::net::UdpSocket;
use std::process::Output;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shunt_report::{AgentKey, LoadReport, ReportedLoad, seal};
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::address::{Address, BackendId, InterfaceId, Mac, PortBe, TCP};
use shunt_shmlayout::config_table::{BackendRecord, FibRecord, Generation, ServiceRecord};
use shunt_shmlayout::flip::Active;
use shunt_shmlayout::regions::ResolveRequest;
use shunt_shmlayout::report_outcome::ReportOutcome;
use shunt_shmlayout::sync::Ordering;

use lab::{CALM, Lab, PEER, REPORTS, cable, until};

/// The flags of a drained backend whose checks pass.
const DRAINED: u8 = BackendRecord::UP | BackendRecord::DRAINED | BackendRecord::STALE;

fn flags(lab: &Lab, port: u16) -> Option<u8> {
    lab.backend(port).map(|(_, record)| record.flags)
}

type Content = (Vec<ServiceRecord>, Vec<BackendRecord>, Vec<FibRecord>, Vec<u16>, Active);

/// Everything in the active generation that a switcher reads.
fn content(lab: &Lab) -> Content {
    let generation = lab.generation().unwrap();
    let services: Vec<_> = generation.services.iter().map(|record| record.load()).collect();
    let backends: Vec<_> = generation.backends.iter().map(|record| record.load()).collect();
    let ranges: Vec<_> = generation.fib.iter().map(|record| record.load()).collect();
    let slots: Vec<_> = generation.slots.iter().map(|slot| slot.load(Ordering::Relaxed)).collect();
    (services, backends, ranges, slots, lab.active())
}

/// The content, once control has nothing to publish any more: weights still return to the configured ones after a silence.
fn settled_content(lab: &Lab) -> Content {
    let mut seen = content(lab);
    until("nothing is published for a while", || {
        std::thread::sleep(CALM);
        let last = std::mem::replace(&mut seen, content(lab));
        (last == seen).then_some(())
    });
    seen
}

#[test]
fn a_life_of_control() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: network namespaces need root");
        return;
    }
    let life = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
        let peer = cable();
        let mut lab = Lab::new(peer.0.id());
        live(&lab);
        refusals::refuses_to_serve_nothing(&mut lab);
    });
    if let Err(panic) = life.join() {
        std::panic::resume_unwind(panic);
    }
}

fn live(lab: &Lab) {
    let mut first = lab.start_with_a_reload();
    publishes(lab);
    refuses_a_second_start(lab);
    resolves_what_a_switcher_wants(lab, 3);
    follows_reports(lab);
    refusals::bad_reloads_change_nothing(lab);
    drains(lab);
    let id = lab.backend(8000).unwrap().0;
    refusals::has_noted(lab);
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let mut second = refusals::goes_on_beside_a_bad_file(lab);
    let answer = lab.order("{\"command\":\"enable\",\"backends\":[\"nobody\"]}");
    assert!(answer.contains("there are: b1, b2, closed"), "{answer}");
    assert_eq!(lab.backend(8000).unwrap().0, id);
    assert_eq!(flags(lab, 8000), Some(DRAINED), "survives control");
    forgets_a_removed_backend(lab, second.0.id());
    kill(Pid::from_raw(second.0.id() as i32), Signal::SIGTERM).unwrap();
    assert!(second.0.wait().unwrap().success());
    assert!(lab.service(2).is_some(), "the memory stays as it is");
}

fn publishes(lab: &Lab) {
    until("a service without slots, its only backend being dead", || {
        lab.service(1).filter(|service| service.slots_count == 0)
    });
    assert_ne!(lab.service(2).unwrap().slots_count, 0);
    until("the backend's Ethernet address", || {
        let id = lab.backend(8000)?.1.neighbour;
        (lab.control.neighbours.mac(id)? == Mac([2, 0, 0, 0, 4, 2])).then_some(())
    });
}

fn refuses_a_second_start(lab: &Lab) {
    let Output { status, stderr, .. } = lab.command().output().unwrap();
    let text = String::from_utf8_lossy(&stderr).into_owned();
    let pid = lab.control.head.pid.get();
    assert_eq!(status.code(), Some(78));
    assert!(text.contains(&format!("shunt-control is already running as pid {pid}")), "{text}");
}

fn resolves_what_a_switcher_wants(lab: &Lab, last: u8) {
    let address = Address::from_v4([198, 18, 4, last]);
    lab.switcher.resolve_requests.producer().push(&ResolveRequest { address, interface: 0, reserved: 0 });
    until("a client's Ethernet address", || {
        let id = lab.control.neighbours.find(InterfaceId(0), &address)?;
        lab.control.neighbours.mac(id)
    });
}

/// Backend b1 says that it is fifty times as loaded as b2, then nobody says anything any more.
fn follows_reports(lab: &Lab) {
    let socket = UdpSocket::bind("198.18.4.1:0").unwrap();
    let key = AgentKey::new(&[7; 32]).unwrap();
    let load = |backend: &str, in_flight| ReportedLoad {
        in_flight: Some(in_flight),
        execution_us: Some(1000),
        ..ReportedLoad::unknown(backend.parse().unwrap())
    };
    let report = |sequence| LoadReport {
        agent: "agent".parse().unwrap(),
        boot_epoch: 1,
        sequence,
        period_ms: 20,
        loads: vec![load("b1", 100), load("b2", 1)],
    };
    let share = |backend: BackendId| {
        let (generation, service) = (lab.generation()?, lab.service(2)?);
        let slots = generation.slots.iter().skip(service.slots_first as usize).take(service.slots_count as usize);
        Some(slots.filter(|slot| slot.load(Ordering::Relaxed) == backend.0).count())
    };
    let b1 = lab.backend(8000).unwrap().0;
    let even = share(b1).unwrap();
    let mut sequence = 0;
    until("a loaded backend gets less", || {
        sequence += 1;
        socket.send_to(&seal(&report(sequence), &key).unwrap(), REPORTS).unwrap();
        share(b1).filter(|share| *share < even / 3)
    });
    let record = lab.control.loads.get(b1);
    assert_eq!((record.in_flight, record.execution_us, record.score), (100, 1000, 101_000));
    let answer = lab.order("{\"command\":\"backends\"}");
    assert!(answer.contains("\"feedback\":{\"web\":\"even: "), "{answer}");
    let outcomes = |outcome: ReportOutcome| lab.control.reports[outcome as usize].get();
    let mut forged = seal(&report(1_000_000), &key).unwrap();
    forged[10] ^= 1;
    socket.send_to(&forged, REPORTS).unwrap();
    until("a forged report is counted", || (outcomes(ReportOutcome::Forged) == 1).then_some(()));
    let ahead = LoadReport { boot_epoch: u64::MAX, ..report(1) };
    socket.send_to(&seal(&ahead, &key).unwrap(), REPORTS).unwrap();
    until("a report from the future is counted", || (outcomes(ReportOutcome::EpochAhead) == 1).then_some(()));
    assert!(outcomes(ReportOutcome::Accepted) > 0);
    until("silence leads back to the configured weight", || share(b1).filter(|share| *share == even));
    let answer = lab.order("{\"command\":\"backends\"}");
    assert!(answer.contains("\"feedback\":{\"web\":\"silent\"}"), "{answer}");
}

fn drains(lab: &Lab) {
    let answer = lab.order_in_force("{\"command\":\"drain\",\"backends\":[\"b1\"]}");
    assert_eq!(flags(lab, 8000), Some(DRAINED), "in force when it is answered");
    assert!(answer.starts_with("{\"ok\":true,\"backends\":[\"b1\"],\"epoch\":"), "{answer}");
    let backends = lab.order("{\"command\":\"backends\"}");
    assert!(backends.contains("\"name\":\"b1\",\"address\":\"198.18.4.2:8000\",\"state\":\"drained\""), "{backends}");
    assert!(backends.contains("\"state\":\"down\",\"health\":\"dead: 198.18.4.2:9: "), "{backends}");
}

fn forgets_a_removed_backend(lab: &Lab, pid: u32) {
    lab.configure(&["b1"]);
    kill(Pid::from_raw(pid as i32), Signal::SIGHUP).unwrap();
    until("both generations forget a backend that has no connection", || {
        lab.active();
        let find = |generation: &Generation<Writer>| generation.find(&Address::from_v4(PEER), PortBe::new(8001), TCP);
        lab.control.generations.iter().all(|generation| find(generation).is_none()).then_some(())
    });
    assert_eq!(flags(lab, 8000), Some(DRAINED), "survives a reload");
}
