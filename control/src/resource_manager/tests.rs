//! What is believed, and that nothing else moves.

use std::num::NonZeroU32;

use proptest::prelude::*;
use shunt_report::{AgentKey, ConfigName, Listening, ServerState, seal};
use shunt_shmlayout::loads::LoadRecord;

use super::*;
use crate::master::feedback::{AgentState, Objection};

const SILENCE_MS: u64 = 1000;

fn key(byte: u8) -> AgentKey {
    AgentKey::new(&[byte; 32]).unwrap()
}

fn name(text: &str) -> ConfigName {
    text.parse().unwrap()
}

/// Agent a has b1 and b2, agent c has b3.
fn agents() -> Agents {
    let mut agents = Agents::default();
    agents.add("a", key(1), ["b1".to_owned(), "b2".to_owned()]);
    agents.add("c", key(3), ["b3".to_owned()]);
    agents
}

fn feedback() -> Feedback {
    Feedback { silence_ms: SILENCE_MS as u32, smoothing_ms: 0, ..Feedback::default() }
}

fn ports() -> BTreeMap<String, u16> {
    ["b1", "b2", "b3"].map(|backend| (backend.to_owned(), 8080)).into()
}

fn manager() -> ResourceManager {
    ResourceManager::new(&feedback(), agents(), ports())
}

fn load(backend: &str, in_flight: u32) -> ReportedLoad {
    ReportedLoad { in_flight: Some(in_flight), execution_us: Some(1000), ..ReportedLoad::unknown(name(backend)) }
}

fn report(sequence: u64, loads: Vec<ReportedLoad>) -> LoadReport {
    LoadReport { agent: name("a"), boot_epoch: 1, sequence, period_ms: 50, loads }
}

fn sealed(report: &LoadReport) -> Vec<u8> {
    seal(report, &key(1)).unwrap()
}

fn outcome(manager: &mut ResourceManager, datagram: &[u8]) -> ReportOutcome {
    manager.receive(datagram, 10).err().unwrap_or(ReportOutcome::Accepted)
}

fn in_flight(manager: &ResourceManager, backend: &str) -> Option<f64> {
    manager.load(backend).and_then(|load| load.measures(0).in_flight)
}

#[test]
fn an_authentic_report_counts_at_once() {
    let mut manager = manager();
    assert!(manager.receive(&sealed(&report(1, vec![load("b1", 4), load("b2", 9)])), 10).is_ok());
    assert_eq!((in_flight(&manager, "b1"), in_flight(&manager, "b2")), (Some(4.0), Some(9.0)));
    let record = manager.load("b1").unwrap().record(3);
    assert_eq!((record.in_flight, record.connections, record.execution_us), (4, 3, 1000));
    assert_eq!((record.reported_ms, record.expires_ms, record.score), (10, 10 + SILENCE_MS, 5000));
}

#[test]
fn only_lasting_load_that_came_by_another_way_is_foreign() {
    let mut manager = manager();
    let mut report_each_50_ms = |in_flight: &[u32], connections: &[u64], from: u64| {
        for (step, (in_flight, connections)) in (0..20).zip(in_flight.iter().zip(connections).cycle()) {
            let now_ms = 50 * (from + step);
            manager.receive(&sealed(&report(from + step + 1, vec![load("b1", *in_flight)])), now_ms).unwrap();
            manager.observe_connections("b1", *connections);
        }
        manager.load("b1").unwrap().record(0).foreign
    };
    assert_eq!(report_each_50_ms(&[5, 3, 4], &[4, 4, 4], 1), 0, "what began or ended during a report");
    assert_eq!(report_each_50_ms(&[9, 10, 11], &[4, 4, 4], 21), 5, "six by another way, after a second");
}

#[test]
fn what_came_and_went_since_a_report_counts_too() {
    let mut manager = manager();
    manager.receive(&sealed(&report(1, vec![load("b1", 4)])), 10).unwrap();
    let known = manager.load("b1").unwrap();
    assert_eq!(
        [3, 0, -1, -9].map(|opened| known.measures(opened).in_flight),
        [Some(7.0), Some(4.0), Some(3.0), Some(0.0)]
    );
}

#[test]
fn whatever_is_dropped_is_counted_by_reason_and_moves_nothing() {
    let mut manager = manager();
    manager.receive(&sealed(&report(100, vec![load("b1", 4)])), 0).unwrap();
    let later = |sequence, loads| sealed(&report(sequence, loads));
    let absurd = |change: fn(&mut ReportedLoad)| {
        let mut wrong = load("b1", 50);
        change(&mut wrong);
        wrong
    };
    let mut forged = later(101, vec![load("b1", 50)]);
    forged[20] ^= 1;
    let cases: Vec<(Vec<u8>, ReportOutcome)> = vec![
        (forged, ReportOutcome::Forged),
        (seal(&report(101, vec![load("b1", 50)]), &key(2)).unwrap(), ReportOutcome::Forged),
        (later(100, vec![load("b1", 50)]), ReportOutcome::Replayed),
        (later(36, vec![load("b1", 50)]), ReportOutcome::Stale),
        (later(99, vec![load("b1", 50)]), ReportOutcome::Late),
        (sealed(&LoadReport { boot_epoch: 0, ..report(500, vec![load("b1", 50)]) }), ReportOutcome::Stale),
        (sealed(&LoadReport { boot_epoch: u64::MAX, ..report(1, vec![load("b1", 50)]) }), ReportOutcome::EpochAhead),
        (sealed(&LoadReport { agent: name("nobody"), ..report(101, vec![]) }), ReportOutcome::UnknownAgent),
        (vec![0; 1401], ReportOutcome::TooLong),
        (vec![0; 3], ReportOutcome::TooShort),
        (vec![1; 100], ReportOutcome::Version),
        (vec![9; 100], ReportOutcome::Version),
        (later(102, vec![load("b3", 50)]), ReportOutcome::NotItsBackend),
        (later(103, vec![load("b1", 50), load("b3", 50)]), ReportOutcome::NotItsBackend),
        (later(104, vec![load("b1", 50), load("b1", 60)]), ReportOutcome::Absurd),
        (later(105, vec![absurd(|load| load.cpu_permille = Some(1001))]), ReportOutcome::Absurd),
        (later(106, vec![absurd(|load| load.in_flight = Some(u32::MAX))]), ReportOutcome::Absurd),
        (later(107, vec![absurd(|load| load.execution_us = Some(u32::MAX))]), ReportOutcome::Absurd),
        (later(108, vec![absurd(|load| load.requests_per_s_milli = Some(u64::MAX))]), ReportOutcome::Absurd),
        (later(109, vec![absurd(|load| load.memory_permille = Some(u16::MAX))]), ReportOutcome::Absurd),
        (later(113, vec![absurd(|load| load.workers = NonZeroU32::new(u32::MAX))]), ReportOutcome::Absurd),
        (later(114, vec![absurd(|load| load.busy_milli = Some(u32::MAX))]), ReportOutcome::Absurd),
        (sealed(&LoadReport { period_ms: 1, ..report(110, vec![]) }), ReportOutcome::Absurd),
    ];
    for (number, (datagram, expected)) in cases.iter().enumerate() {
        assert_eq!(outcome(&mut manager, datagram), *expected, "case {number}");
        let (b1, others) = (in_flight(&manager, "b1"), ["b2", "b3"].map(|backend| in_flight(&manager, backend)));
        assert_eq!((b1, others), (Some(4.0), [None, None]), "case {number}");
        assert_eq!(manager.load("b1").unwrap().reported_ms(), 0);
    }
    assert_eq!(outcome(&mut manager, &later(115, vec![load("b1", 5)])), ReportOutcome::Accepted);
}

/// A backend of four workers, with so many requests in flight and at work, reports 200 times from this number and time on.
fn work(manager: &mut ResourceManager, first: u64, workers: Option<u32>) -> (u32, bool) {
    for turn in first..first + 200 {
        let in_flight = turn as u32 % 9;
        let workers = workers.and_then(NonZeroU32::new);
        let busy = ReportedLoad { workers, busy_milli: Some(in_flight.min(4) * 1000), ..load("b1", in_flight) };
        manager.receive(&sealed(&report(turn, vec![busy])), turn * 50).unwrap();
    }
    let record = manager.load("b1").unwrap().record(0);
    (record.workers, record.flags & LoadRecord::WORKERS_LEARNT != 0)
}

#[test]
fn workers_are_learnt_outlive_a_silence_and_what_the_agent_says_goes_before() {
    let mut manager = manager();
    assert_eq!(work(&mut manager, 1, None), (4, true));
    manager.receive(&sealed(&report(500, vec![load("b1", 1)])), 25_000 + 2 * SILENCE_MS).unwrap();
    assert_eq!(manager.load("b1").unwrap().record(0).workers, 4, "after a silence");
    assert_eq!(work(&mut manager, 600, Some(7)), (7, false));
}

#[test]
fn silence_ends_what_is_known_and_the_next_report_counts_whole() {
    let slow = Feedback { smoothing_ms: 60_000, ..feedback() };
    let mut manager = ResourceManager::new(&slow, agents(), ports());
    let execution_us = |manager: &ResourceManager| manager.load("b1").unwrap().measures(0).execution_us.unwrap();
    let lasting = |execution_us| ReportedLoad { execution_us: Some(execution_us), ..load("b1", 5) };
    manager.receive(&sealed(&report(1, vec![lasting(100_000)])), 0).unwrap();
    manager.receive(&sealed(&report(2, vec![lasting(0)])), 600).unwrap();
    assert!(execution_us(&manager) > 98_000.0, "smoothed");
    assert!(!manager.load("b1").unwrap().is_silent(600 + SILENCE_MS - 1));
    assert!(manager.load("b1").unwrap().is_silent(600 + SILENCE_MS));
    manager.receive(&sealed(&report(3, vec![lasting(700)])), 5000).unwrap();
    assert_eq!(execution_us(&manager), 700.0);
}

#[test]
fn a_slow_backend_that_gets_nothing_is_tried_again() {
    let mut manager = manager();
    let slow = ReportedLoad { execution_us: Some(800_000), ..load("b1", 9) };
    manager.receive(&sealed(&report(1, vec![slow])), 0).unwrap();
    let without = |in_flight| ReportedLoad { execution_us: None, ..load("b1", in_flight) };
    manager.receive(&sealed(&report(2, vec![without(9)])), 500).unwrap();
    assert_eq!(manager.load("b1").unwrap().record(0).execution_us, 800_000, "it hangs");
    let times: Vec<u32> = (3..7u64)
        .map(|sequence| {
            manager.receive(&sealed(&report(sequence, vec![without(0)])), (sequence - 1) * 500).unwrap();
            manager.load("b1").unwrap().record(0).execution_us
        })
        .collect();
    assert_eq!(times, [800_000, 800_000, 0, 0], "forgotten after a second of rest");
    assert!(manager.load("b1").unwrap().measures(0).is_rested);
    manager.receive(&sealed(&report(8, vec![load("b1", 1)])), 3100).unwrap();
    assert_eq!(manager.load("b1").unwrap().record(0).execution_us, 1000, "the next counts whole");
    assert!(!manager.load("b1").unwrap().measures(0).is_rested);
}

fn expects(manager: &ResourceManager, backend: &str) -> bool {
    manager.expects(&BackendKey { service: "web".to_owned(), backend: backend.to_owned() })
}

#[test]
fn a_reload_keeps_what_is_known_and_what_must_not_come_again() {
    let mut manager = manager();
    let first = sealed(&report(1, vec![load("b1", 4), load("b2", 5)]));
    manager.receive(&first, 0).unwrap();
    let mut fewer = Agents::default();
    fewer.add("a", key(1), ["b1".to_owned()]);
    manager.configure(&feedback(), fewer, ports());
    assert_eq!(outcome(&mut manager, &first), ReportOutcome::Replayed);
    assert_eq!((in_flight(&manager, "b1"), in_flight(&manager, "b2")), (Some(4.0), None));
    assert_eq!((expects(&manager, "b1"), expects(&manager, "b2")), (true, false));
}

/// An agent whose clock was a year ahead counts again as soon as it starts with the right time, and is told of once.
#[test]
fn an_agent_whose_clock_was_ahead_is_not_locked_out() {
    let mut manager = manager();
    let (now_us, year_us) = (1_795_000_000_000_000, 365 * 86_400 * 1_000_000);
    manager.follow_clock(now_us);
    let run = |boot_epoch, sequence| sealed(&LoadReport { boot_epoch, ..report(sequence, vec![load("b1", 4)]) });
    for sequence in 1..4 {
        assert_eq!(outcome(&mut manager, &run(now_us + year_us, sequence)), ReportOutcome::EpochAhead);
    }
    assert_eq!(manager.take_ahead(), [("a".to_owned(), now_us + year_us)]);
    manager.configure(&feedback(), agents(), ports());
    assert_eq!(outcome(&mut manager, &run(now_us + year_us, 4)), ReportOutcome::EpochAhead);
    assert!(manager.take_ahead().is_empty() && manager.load("b1").is_none());
    assert_eq!(outcome(&mut manager, &run(now_us, 1)), ReportOutcome::Accepted);
    assert_eq!(outcome(&mut manager, &run(now_us, 1)), ReportOutcome::Replayed);
}

/// Its clock was ahead by less than is refused, and was then set right.
#[test]
fn a_new_key_ends_the_lockout_of_an_agent_whose_clock_was_set_back() {
    let mut manager = manager();
    let run = |boot_epoch| LoadReport { boot_epoch, ..report(1, vec![load("b1", 4)]) };
    assert_eq!(outcome(&mut manager, &sealed(&run(9))), ReportOutcome::Accepted);
    assert_eq!(outcome(&mut manager, &sealed(&run(7))), ReportOutcome::Stale);
    manager.configure(&feedback(), agents(), ports());
    assert_eq!(outcome(&mut manager, &sealed(&run(7))), ReportOutcome::Stale, "the same key");
    let mut renewed = Agents::default();
    renewed.add("a", key(2), ["b1".to_owned()]);
    manager.configure(&feedback(), renewed, ports());
    assert_eq!(outcome(&mut manager, &sealed(&run(9))), ReportOutcome::Forged, "the old key");
    let right = seal(&run(7), &key(2)).unwrap();
    assert_eq!(outcome(&mut manager, &right), ReportOutcome::Accepted);
    assert_eq!(outcome(&mut manager, &right), ReportOutcome::Replayed);
}

#[test]
fn an_opinion_is_heard_without_a_number() {
    let mut manager = manager();
    let down = ReportedLoad { state: ServerState::Down, ..ReportedLoad::unknown(name("b1")) };
    manager.receive(&sealed(&report(1, vec![down])), 0).unwrap();
    let known = manager.load("b1").unwrap();
    assert_eq!((known.agent_state(0, 0), known.agent_state(0, SILENCE_MS)), (AgentState::Declines, AgentState::Silent));
    let record = known.record(0);
    assert_eq!((record.flags, record.score), (LoadRecord::DOWN, 0));
}

#[test]
fn a_load_of_a_port_that_nobody_listens_on_or_that_is_not_the_backends_counts_for_nothing() {
    use Listening::{Never, NoLonger, Unobserved, Yes};
    let cases = [
        (8080, Yes, None),
        (8080, NoLonger, None),
        (8081, Unobserved, None),
        (8080, Never, Some((ReportOutcome::NeverListening, Objection::NeverListening(8080)))),
        (8081, Never, Some((ReportOutcome::OtherPort, Objection::OtherPort(8081)))),
        (8081, Yes, Some((ReportOutcome::OtherPort, Objection::OtherPort(8081)))),
    ];
    let mut manager = manager();
    for (sequence, (port, listening, ignored)) in (1..).zip(cases) {
        let typed = ReportedLoad { port, listening, ..load("b1", 4) };
        let report = manager.receive(&sealed(&report(sequence, vec![typed, load("b2", 5)])), 10).unwrap();
        let expected = ignored.map_or(ReportOutcome::Accepted, |(outcome, _)| outcome);
        assert_eq!(manager.outcome(&report), expected, "{port} {listening:?}");
        let (known, record) = (manager.load("b1").unwrap(), manager.load("b1").unwrap().record(0));
        match ignored {
            None => assert_eq!((in_flight(&manager, "b1"), record.score), (Some(4.0), 5000)),
            Some((_, objection)) => {
                assert_eq!(known.agent_state(0, 10), AgentState::Ignored(objection));
                // What switchers go by.
                assert_eq!((record.flags & LoadRecord::IN_FLIGHT, record.execution_us, record.score), (0, 0, 0));
            }
        }
        assert_eq!(in_flight(&manager, "b2"), Some(5.0), "the server's other backend");
    }
}

#[test]
fn a_load_that_is_ignored_may_still_decline() {
    let mut manager = manager();
    let draining = ReportedLoad { listening: Listening::Never, state: ServerState::Drain, port: 8080, ..load("b1", 0) };
    manager.receive(&sealed(&report(1, vec![draining])), 0).unwrap();
    assert_eq!(manager.load("b1").unwrap().agent_state(0, 0), AgentState::Declines);
}

proptest! {
    #[test]
    fn changed_datagrams_are_never_accepted(
        at in any::<prop::sample::Index>(), xor in 1..=255_u8, cut in any::<prop::sample::Index>(),
    ) {
        let mut manager = manager();
        let good = sealed(&report(1, vec![load("b1", 4)]));
        let mut changed = good.clone();
        changed[at.index(good.len())] ^= xor;
        prop_assert_ne!(outcome(&mut manager, &changed), ReportOutcome::Accepted);
        prop_assert_ne!(outcome(&mut manager, &good[..cut.index(good.len())]), ReportOutcome::Accepted);
        prop_assert!(manager.load("b1").is_none());
        prop_assert_eq!(outcome(&mut manager, &good), ReportOutcome::Accepted);
    }
}

/// Places in memory that outlives control.
fn places(count: usize) -> &'static [ReplayPlace<Writer>] {
    Vec::leak((0..count).map(|_| ReplayPlace::default()).collect())
}

fn started(places: &'static [ReplayPlace<Writer>], agents: Agents) -> ResourceManager {
    let mut manager = ResourceManager::new(&feedback(), agents, ports());
    manager.remember_in(places);
    manager
}

#[test]
fn what_was_admitted_before_a_restart_is_never_admitted_again_and_the_next_report_is() {
    let (places, recorded) =
        (places(3), [1, 2, 3].map(|number| sealed(&report(number, vec![load("b1", number as u32)]))));
    let mut manager = started(places, agents());
    for datagram in &recorded {
        assert_eq!(outcome(&mut manager, datagram), ReportOutcome::Accepted);
    }
    let mut restarted = started(places, agents());
    for datagram in &recorded {
        assert_eq!(outcome(&mut restarted, datagram), ReportOutcome::Replayed);
    }
    assert_eq!(in_flight(&restarted, "b1"), None);
    let next = sealed(&report(4, vec![load("b1", 4)]));
    assert_eq!(outcome(&mut restarted, &next), ReportOutcome::Accepted);
    assert_eq!(in_flight(&restarted, "b1"), Some(4.0));
}

#[test]
fn an_agent_that_left_the_configuration_and_returned_has_sent_what_it_has_sent() {
    let (places, datagram) = (places(3), sealed(&report(1, vec![load("b1", 1)])));
    let mut manager = started(places, agents());
    assert_eq!(outcome(&mut manager, &datagram), ReportOutcome::Accepted);
    for agents in [Agents::default(), agents()] {
        manager.configure(&feedback(), agents, ports());
        manager.remember_in(places);
    }
    assert_eq!(outcome(&mut manager, &datagram), ReportOutcome::Replayed);
}

#[test]
fn places_are_given_away_only_where_none_is_free_and_with_a_new_key() {
    let places = places(2);
    let of = |names: &[(&str, u8)]| {
        let mut agents = Agents::default();
        names.iter().for_each(|(name, byte)| agents.add(name, key(*byte), []));
        agents
    };
    let owners = |names: &[(&str, u8)]| {
        started(places, of(names));
        let mut owners: Vec<u64> = places.iter().map(ReplayPlace::owner).collect();
        owners.sort_unstable();
        owners
    };
    let identities = |names: &[(&str, u8)]| {
        let mut identities: Vec<u64> = names.iter().map(|(name, byte)| key(*byte).identity(name)).collect();
        identities.sort_unstable();
        identities
    };
    assert_eq!(owners(&[("a", 1)])[1], identities(&[("a", 1)])[0]);
    assert_eq!(owners(&[("c", 3)]), identities(&[("a", 1), ("c", 3)]), "a free place is there");
    assert_eq!(owners(&[("c", 4), ("a", 1)]), identities(&[("a", 1), ("c", 4)]), "a's is never taken from it");
}
