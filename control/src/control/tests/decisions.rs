//! Each decision by itself: what goes in, and what comes out.

use std::net::IpAddr;

use shunt_protocol::admin::{Accepted, Command, Reply};
use shunt_publish::testing::{IFINDEX, ServiceOf};
use shunt_report::agent_check::AgentAnswer;
use shunt_routing::event::{NeighbourKey, NeighbourState, Route, RouteKey};
use shunt_routing::state::Changes;
use shunt_shmlayout::address::InterfaceId;
use shunt_shmlayout::regions::ResolveRequest;
use shunt_shmlayout::report_outcome::ReportOutcome;
use shunt_shmlayout::sync::Ordering;

use super::super::cause::{Cause, Causes};
use super::super::outside::{Count, Event, Outputs, Published};
use super::super::testing::{World, checked, learn, select};
use crate::health::{BackendKey, Health};
use crate::resource_manager::agent_check::Outcome;
use shunt_publish::retirement::ConnectionCounts;

const TWO: &[ServiceOf<'_>] = &[(1, "nat", &[(1, 1), (2, 1)])];

/// Control after its first publications.
fn settled(services: &[ServiceOf<'_>], lines: &str) -> World {
    let mut world = World::new(services, lines);
    world.pass(200);
    world
}

fn published(all: &[Outputs]) -> Vec<Causes> {
    all.iter().filter_map(|outputs| Some(outputs.published.clone()?.causes)).collect()
}

fn because(causes: &[Cause]) -> Causes {
    causes.iter().copied().collect()
}

#[test]
fn the_first_turn_fills_and_the_next_one_makes_it_active() {
    let mut world = World::new(TWO, "");
    assert!(world.turn(Vec::new()).published.is_none(), "not yet due");
    let all = world.pass(30);
    let first = all.iter().find_map(|outputs| outputs.published.clone());
    let causes = because(&[Cause::Start, Cause::Routes, Cause::Interfaces]);
    assert_eq!(first, Some(Published { epoch: 1, causes }));
    assert_eq!(world.in_slots(), [world.backend(1), world.backend(2)]);
    assert!(published(&world.pass(500)).is_empty(), "nothing changes");
}

#[test]
fn an_idle_control_takes_longer_turns_than_one_with_something_on_its_way() {
    let mut world = settled(TWO, "");
    assert_eq!(world.control.due_ms() - world.control.last_ms, super::super::QUIET_TURN_MS);
    world.turn(vec![checked(1, 1, Health::Down)]);
    assert_eq!(world.control.due_ms() - world.control.last_ms, super::super::TURN_MS);
}

#[test]
fn a_check_that_fails_takes_its_backend_out_and_says_why() {
    let mut world = settled(TWO, "");
    world.turn(vec![checked(1, 1, Health::Down)]);
    assert_eq!(published(&world.pass(100)), [because(&[Cause::Health])]);
    assert_eq!(world.in_slots(), [world.backend(2)]);
    let key = BackendKey { service: "s1".into(), backend: "b1".into() };
    assert_eq!(world.control.notes().get(&key).unwrap().reason, "found Down");
    world.turn(vec![checked(1, 1, Health::Down), checked(9, 9, Health::Down)]);
    assert!(published(&world.pass(100)).is_empty(), "known, and about nobody");
}

#[test]
fn what_happens_together_is_published_once_with_all_causes() {
    let mut world = settled(TWO, "");
    let (_, drain) = world.order(Command::Drain(select(1)));
    world.turn(vec![checked(1, 2, Health::Down), drain]);
    assert_eq!(published(&world.pass(100)), [because(&[Cause::Health, Cause::Drain])]);
    assert_eq!(because(&[Cause::Health, Cause::Drain]).to_string(), "health, drain");
}

#[test]
fn an_order_is_answered_once_it_is_in_force_and_a_wrong_one_at_once() {
    let mut world = settled(TWO, "");
    let (reply, turns) = world.answer(Command::Drain(select(1)));
    let Reply::InForce { what: Accepted::Changed { backends }, epoch } = reply else { panic!("{reply:?}") };
    assert_eq!((backends, epoch), (vec!["b1".to_owned()], world.control.memory().active().epoch()));
    assert!(turns > 0 && world.in_slots() == [world.backend(2)]);
    let (reply, turns) = world.answer(Command::Drain(select(7)));
    assert!(matches!(reply, Reply::Refused { error } if error.contains("no backend is called b7")));
    assert_eq!(turns, 0);
    let (again, _) = world.answer(Command::Drain(select(1)));
    assert!(matches!(again, Reply::InForce { epoch: same, .. } if same == epoch), "drained already");
}

/// The first finds a free buffer and becomes active, the second doesn't: the switcher has taken neither.
#[test]
fn each_order_that_a_stopped_switcher_has_not_taken_is_answered_with_its_name() {
    let mut world = settled(TWO, "");
    let before = world.control.memory().active();
    world.shared.switchers[1].head.in_use.store(before.0, Ordering::Relaxed);
    for command in [Command::Drain(select(1)), Command::Enable(select(1)), Command::Drain(select(1))] {
        let (reply, turns) = world.answer(command);
        let Reply::Pending { what: Accepted::Changed { .. }, error } = reply else { panic!("{reply:?}") };
        let named = format!("not in force after 5 s: switcher 1 (pid {}) still uses epoch", std::process::id());
        assert!(error.contains(&format!("{named} {};", before.epoch())), "{error}");
        assert!(turns * 5 >= 5_000, "{turns} turns");
    }
}

#[test]
fn an_order_is_answered_as_soon_as_the_last_switcher_has_taken_it() {
    let mut world = settled(TWO, "");
    let head = world.shared.switchers[1].head;
    head.in_use.store(world.control.memory().active().0, Ordering::Relaxed);
    let (ticket, order) = world.order(Command::Drain(select(1)));
    assert!(world.turn(vec![order]).replies.is_empty());
    assert!(world.pass(1_000).iter().all(|outputs| outputs.replies.is_empty()), "one switcher has it, the other not");
    let active = world.control.memory().active();
    head.in_use.store(active.0, Ordering::Relaxed);
    let replies: Vec<_> = world.pass(10).into_iter().flat_map(|outputs| outputs.replies).collect();
    assert!(matches!(&replies[..], [(to, Reply::InForce { epoch, .. })] if *to == ticket && *epoch == active.epoch()));
}

/// The rehearsal finds out beforehand; here the shared memory is smaller than what it rehearses in.
#[test]
fn an_accepted_order_that_cannot_be_published_stands_and_is_tried_again() {
    let mut world = World::with_endpoints(TWO, "", 16);
    world.pass(200);
    let all: Vec<(u8, u16)> = (1..=15).map(|number| (number, 1)).collect();
    world.write(&[(1, "nat", &all)], "");
    let (reply, _) = world.answer(Command::Reload);
    let Reply::Pending { what: Accepted::Reloaded { backends: 15, .. }, error } = reply else { panic!("{reply:?}") };
    assert!(error.starts_with("accepted, but not in force: ") && error.contains("no place in the endpoint"), "{error}");
    assert!(world.control.table().backend_named("b15").is_some(), "accepted");
    let head = world.control.memory().control.head;
    let (active, fills) = (world.control.memory().active(), head.fills.load(Ordering::Relaxed));
    world.pass(2_500);
    let attempts = (head.fills.load(Ordering::Relaxed) - fills) / 2;
    assert!((1..=3).contains(&attempts), "{attempts} attempts");
    assert_eq!(world.control.memory().active(), active, "what was published stays in force");
}

#[test]
fn a_reload_is_taken_whole_or_not_at_all() {
    let mut world = settled(TWO, "");
    let before = world.in_slots();
    world.spoil();
    let (ticket, order) = world.order(Command::Reload);
    let refused = world.turn(vec![order]);
    assert!(matches!(&refused.replies[..], [(to, Reply::Refused { .. })] if *to == ticket));
    assert!(refused.accepted.is_none() && refused.checks.is_none() && refused.questions.is_none());
    assert!(published(&world.pass(100)).is_empty());
    let (status, _) = world.answer(Command::Configuration);
    assert!(matches!(status, Reply::Configuration(status) if status.refusal.is_some()));

    world.write(&[(1, "nat", &[(2, 1), (3, 1)])], "");
    let (_, order) = world.order(Command::Reload);
    let accepted = world.turn(vec![order]);
    assert!(accepted.accepted.is_some_and(|text| text.contains("b3")));
    let checks = accepted.checks.unwrap();
    assert_eq!(checks.iter().map(|(check, _)| &*check.key.backend).collect::<Vec<_>>(), ["b2", "b3"]);
    assert!(published(&world.pass(100)).contains(&because(&[Cause::Reload])));
    assert_eq!(world.in_slots(), [world.backend(2), world.backend(3)]);
    assert!(!before.contains(&world.backend(3)), "its own id");
    world.spoil();
    world.turn(vec![Event::Hangup]);
    assert!(published(&world.pass(100)).is_empty());
}

#[test]
fn a_report_before_a_reload_is_taken_before_it() {
    let mut world = settled(TWO, "");
    let (_, order) = world.order(Command::Reload);
    let outputs = world.turn(vec![checked(1, 1, Health::Down), order]);
    let health: Vec<Health> = outputs.checks.unwrap().into_iter().map(|(_, health)| health).collect();
    assert_eq!(health, [Health::Down, Health::Up]);
}

#[test]
fn what_left_the_configuration_is_counted_and_forgotten_and_an_old_count_proves_nothing() {
    let mut world = settled(TWO, "");
    let leave: &[ServiceOf<'_>] = &[(1, "nat", &[(2, 1)])];
    world.write(leave, "");
    world.turn(vec![Event::Hangup]);
    let request = world.pass(100).into_iter().find_map(|outputs| outputs.count).expect("a count");
    assert_eq!(request.leaving.backends.len(), 1);
    assert!(world.pass(5_000).iter().all(|outputs| outputs.count.is_none()), "one count at a time");
    world.turn(vec![Event::Hangup]);
    world.turn(vec![Event::Counted(Count { request, counts: Ok(ConnectionCounts::default()) })]);
    assert!(world.control.table().backends().any(|(_, backend)| backend.removed), "of another configuration");
    let request = world.pass(100).into_iter().find_map(|outputs| outputs.count).expect("another count");
    world.turn(vec![Event::Counted(Count { request, counts: Ok(ConnectionCounts::default()) })]);
    assert_eq!(world.control.table().backends().count(), 1);
    let causes = published(&world.pass(100));
    assert_eq!(causes, [because(&[Cause::Retirement]), because(&[Cause::IdleBuffer])], "in both buffers");
    assert!(world.pass(100).iter().all(|outputs| outputs.count.is_none()), "nobody leaves any more");
}

#[test]
fn a_count_that_failed_is_made_again() {
    let mut world = settled(TWO, "");
    world.write(&[(1, "nat", &[(2, 1)])], "");
    world.turn(vec![Event::Hangup]);
    let request = world.pass(100).into_iter().find_map(|outputs| outputs.count).expect("a count");
    world.turn(vec![Event::Counted(Count { request, counts: Err("panicked".to_owned()) })]);
    assert!(world.control.table().backends().any(|(_, backend)| backend.removed), "nothing is proved");
    let again = world.pass(2_100).into_iter().find_map(|outputs| outputs.count).expect("another count");
    world.turn(vec![Event::Counted(Count { request: again, counts: Ok(ConnectionCounts::default()) })]);
    assert_eq!(world.control.table().backends().count(), 1);
}

#[test]
fn an_id_that_a_buffer_still_names_is_nobody_elses() {
    let mut world = settled(TWO, "");
    let gone = world.backend(1);
    world.write(&[(1, "nat", &[(2, 1)])], "");
    world.turn(vec![Event::Hangup]);
    let request = world.pass(100).into_iter().find_map(|outputs| outputs.count).expect("a count");
    world.write(&[(1, "nat", &[(2, 1), (3, 1)])], "");
    world.turn(vec![Event::Counted(Count { request, counts: Ok(ConnectionCounts::default()) }), Event::Hangup]);
    assert_ne!(world.backend(3), gone);
}

#[test]
fn routes_that_change_are_published_and_those_of_other_interfaces_are_not() {
    let mut world = settled(TWO, "");
    let routes = Changes { routes: true, ..Changes::default() };
    let others = world.kernel.routes.values().find(|route| route.key.prefix_len == 24).cloned().unwrap();
    let part = RouteKey { prefix_len: 25, ..others.key };
    world.kernel.routes.insert(part, Route { key: part, ..others });
    world.turn(vec![Event::Network(routes)]);
    assert!(published(&world.pass(100)).is_empty());
    world.kernel.routes.retain(|key, _| key.prefix_len != 15);
    world.turn(vec![Event::Network(routes)]);
    assert_eq!(published(&world.pass(100)), [because(&[Cause::Routes])]);
}

#[test]
fn unresolved_neighbours_are_asked_for_and_wishes_of_switchers_too() {
    let mut world = settled(TWO, "");
    let b1 = NeighbourKey { ifindex: IFINDEX, address: [198, 18, 1, 1].into() };
    world.kernel.neighbours.remove(&b1);
    world.turn(vec![Event::Network(Changes { neighbours: true, ..Changes::default() })]);
    let asked = |all: Vec<Outputs>| all.into_iter().flat_map(|outputs| outputs.resolve).collect::<Vec<_>>();
    assert!(asked(world.pass(200)).contains(&b1));
    learn(&mut world.kernel, 1);
    world.kernel.neighbours.get_mut(&b1).unwrap().state = NeighbourState::Reachable;
    world.turn(vec![Event::Network(Changes { neighbours: true, ..Changes::default() })]);
    assert!(!asked(world.pass(2_000)).contains(&b1));
    let address = shunt_shmlayout::address::Address::from_v4([198, 18, 0, 77]);
    let wanted = ResolveRequest { address, interface: InterfaceId(0).0.into(), reserved: 0 };
    assert!(world.shared.switchers[0].resolve_requests.producer().push(&wanted));
    let client = NeighbourKey { ifindex: IFINDEX, address: [198, 18, 0, 77].into() };
    assert_eq!(asked(world.pass(50)), [client]);
}

#[test]
fn calls_of_a_service_by_the_box_itself_are_counted() {
    let mut world = settled(TWO, "");
    let calls: [IpAddr; 3] = [[198, 18, 0, 1].into(), [198, 18, 0, 1].into(), [198, 18, 1, 1].into()];
    world.turn(vec![Event::Unanswered(calls.to_vec())]);
    assert_eq!(world.control.memory().control.head.own_calls.get(), 2);
}

#[test]
fn service_addresses_are_announced_once_they_are_served() {
    let mut world = World::new(TWO, "");
    assert!(world.turn(Vec::new()).announce.is_empty());
    let announced: Vec<_> = world.pass(200).into_iter().flat_map(|outputs| outputs.announce).collect();
    assert_eq!(announced.len(), 1);
    assert_eq!((announced[0].0.ifindex, &announced[0].1[..]), (IFINDEX, &[[198, 18, 0, 1].into()][..]));
}

#[test]
fn an_agent_s_answer_moves_weights_and_its_silence_moves_them_back() {
    let mut world = settled(TWO, "agent_check = { port = 9777, interval_ms = 100 }\n");
    let key = BackendKey { service: "s1".into(), backend: "b1".into() };
    let answer = |text: &str| Outcome { key: key.clone(), answer: Ok(AgentAnswer::parse(text.as_bytes()).unwrap()) };
    world.turn(vec![Event::Answer(answer("drain"))]);
    assert_eq!(published(&world.pass(100)), [because(&[Cause::Feedback])]);
    assert_eq!(world.in_slots(), [world.backend(2)]);
    world.pass(2_000);
    assert_eq!(world.in_slots(), [world.backend(1), world.backend(2)]);
    let failed = Outcome { key, answer: Err("no answer".to_owned()) };
    world.turn(vec![Event::Answer(failed)]);
    let count = |outcome| world.control.memory().control.reports[outcome as usize].get();
    assert_eq!([ReportOutcome::CheckAnswered, ReportOutcome::CheckFailed].map(count), [1, 1]);
}

#[test]
fn datagrams_that_are_no_reports_are_counted_and_change_nothing() {
    let mut world = settled(TWO, "");
    let datagram = |bytes: &[u8]| Event::Datagram { source: [198, 18, 9, 9].into(), bytes: bytes.to_vec() };
    world.turn(vec![datagram(b""), datagram(&[9; 64])]);
    let reports = world.control.memory().control.reports;
    assert_eq!(reports.iter().map(|counter| counter.get()).sum::<u64>(), 2);
    assert!(published(&world.pass(100)).is_empty());
}

#[test]
fn a_successor_goes_on_with_ids_drains_and_health_by_the_configuration_accepted_last() {
    let mut world = settled(TWO, "");
    let ids = [1, 2].map(|number| world.backend(number));
    world.turn(vec![checked(1, 2, Health::Down)]);
    world.answer(Command::Drain(select(1)));
    let slots = world.in_slots();
    world.spoil();
    world.restart();
    world.pass(100);
    assert_eq!([1, 2].map(|number| world.backend(number)), ids);
    assert!(world.control.table().is_drained(ids[0]) && !world.control.table().is_up(ids[1]));
    assert_eq!(world.in_slots(), slots);
}

#[test]
fn circumstances_are_told_as_they_are_at_the_order() {
    let mut world = settled(TWO, "");
    world.circumstances.is_unsaved = true;
    world.circumstances.not_listening = Some(("198.18.0.9:1".parse().unwrap(), "in use".to_owned()));
    let Reply::Configuration(status) = world.answer(Command::Configuration).0 else { panic!("another answer") };
    assert!(status.unsaved);
    assert_eq!(status.reports.not_listening, Some(("198.18.0.9:1".to_owned(), "in use".to_owned())));
}
