//! Reports there and back, and everything that is no report.

use super::super::{Listening, ServerState};
use super::*;
use proptest::prelude::*;
use std::num::NonZeroU32;

fn key() -> AgentKey {
    AgentKey::new(&[b'k'; 32]).unwrap()
}

fn name(text: &str) -> ConfigName {
    text.parse().unwrap()
}

fn open_with(datagram: &[u8], key: &AgentKey) -> Result<LoadReport, ReportRefusal> {
    open(datagram, |agent| (agent.as_str() != "stranger").then_some(key))
}

fn report() -> LoadReport {
    let load = ReportedLoad {
        port: 8080,
        listening: Listening::Yes,
        state: ServerState::Drain,
        clients: Some(12),
        execution_us: Some(1500),
        requests_per_s_milli: Some(2_500_000),
        workers: NonZeroU32::new(4),
        ..ReportedLoad::unknown(name("b1"))
    };
    let loads = vec![load, ReportedLoad::unknown(name("b2"))];
    LoadReport { agent: name("agent-1"), boot_epoch: 1_795_000_000_000_000, sequence: 17, period_ms: 50, loads }
}

/// A datagram whose tag is right whatever the body.
fn authentic(body: &[u8]) -> Vec<u8> {
    let mut datagram = [&[VERSION, 1, b'a'][..], body].concat();
    datagram.extend(key().tag(&datagram));
    datagram
}

#[test]
fn what_was_sealed_is_what_opens() {
    let datagram = seal(&report(), &key()).unwrap();
    assert_eq!(open_with(&datagram, &key()), Ok(report()));
    // The format is fixed: an agent of today talks to a control of tomorrow.
    let body: String = datagram[2 + 7..datagram.len() - TAG_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(body, EXPECTED_BODY);
}

/// Two integers, period, count, then each load: name, port, listening, state, and for each number whether it is there.
const EXPECTED_BODY: &str = "fd00305f018b600600113202026231fb901f0201010c00000001fbdc0501fca02526000104000262320000\
    000000000000000000";

#[test]
fn the_longest_report_fits() {
    let load = ReportedLoad {
        port: u16::MAX,
        listening: Listening::NoLonger,
        state: ServerState::Down,
        clients: Some(u32::MAX),
        in_flight: Some(u32::MAX),
        cpu_permille: Some(u16::MAX),
        memory_permille: Some(u16::MAX),
        execution_us: Some(u32::MAX),
        requests_per_s_milli: Some(u64::MAX),
        workers: NonZeroU32::new(u32::MAX),
        busy_milli: Some(u32::MAX),
        backend: name(&"b".repeat(31)),
    };
    let mut report = LoadReport {
        agent: name(&"a".repeat(31)),
        boot_epoch: u64::MAX,
        sequence: u64::MAX,
        period_ms: u16::MAX,
        loads: vec![load.clone(); MOST_LOADS],
    };
    let datagram = seal(&report, &key()).unwrap();
    assert!(datagram.len() <= LONGEST_BYTES, "{} bytes", datagram.len());
    assert_eq!(open_with(&datagram, &key()).as_ref(), Ok(&report));
    report.loads.push(load);
    assert!(matches!(seal(&report, &key()), Err(SealError::TooManyLoads(16))));
}

#[test]
fn each_refusal_has_its_cause() {
    let good = seal(&report(), &key()).unwrap();
    assert_eq!(open_with(&[], &key()), Err(ReportRefusal::TooShort));
    assert_eq!(open_with(&good[..SHORTEST_BYTES - 1], &key()), Err(ReportRefusal::TooShort));
    assert_eq!(open_with(&[1; LONGEST_BYTES + 1], &key()), Err(ReportRefusal::TooLong));
    let mut other_version = good.clone();
    for version in [0, VERSION - 1, VERSION + 1] {
        other_version[0] = version;
        assert_eq!(open_with(&other_version, &key()), Err(ReportRefusal::Version));
    }
    let stranger = LoadReport { agent: name("stranger"), ..report() };
    assert_eq!(open_with(&seal(&stranger, &key()).unwrap(), &key()), Err(ReportRefusal::UnknownAgent));
    assert_eq!(open_with(&good, &AgentKey::new(&[b'x'; 32]).unwrap()), Err(ReportRefusal::Forged));
    let mut long_name = good.clone();
    long_name[1] = 255;
    assert_eq!(open_with(&long_name, &key()), Err(ReportRefusal::TooShort));
}

#[test]
fn another_agent_s_name_does_not_make_its_report() {
    let mut datagram = seal(&report(), &key()).unwrap();
    let keys = [key(), AgentKey::new(&[b'x'; 32]).unwrap()];
    datagram[2 + 6] = b'2';
    let refused = open(&datagram, |agent| keys.get(usize::from(agent.as_str() == "agent-2")));
    assert_eq!(refused, Err(ReportRefusal::Forged));
}

#[test]
fn authentic_bodies_that_make_no_sense_are_malformed() {
    let encode = |body: Body| bincode::serde::encode_to_vec(body, ENCODING).unwrap();
    let body = |loads| Body { boot_epoch: 1, sequence: 1, period_ms: 50, loads };
    let good = encode(body(vec![ReportedLoad::unknown(name("b1"))]));
    assert!(open_with(&authentic(&good), &key()).is_ok());
    assert_eq!(
        open_with(&authentic(&[&good[..], &[0]].concat()), &key()),
        Err(ReportRefusal::Malformed),
        "a byte after it"
    );
    assert_eq!(open_with(&authentic(&good[..good.len() - 1]), &key()), Err(ReportRefusal::Malformed), "a byte short");
    let many = encode(body(vec![ReportedLoad::unknown(name("b1")); MOST_LOADS + 1]));
    assert_eq!(open_with(&authentic(&many), &key()), Err(ReportRefusal::Malformed), "16 loads");
    // A count of loads that would need 2^60 bytes.
    let bomb = [&[1, 1, 50, 253][..], &(1_u64 << 60).to_le_bytes()].concat();
    assert_eq!(open_with(&authentic(&bomb), &key()), Err(ReportRefusal::Malformed), "a hostile length");
    let unnamed = [1, 1, 50, 1, 2, b'/', 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(open_with(&authentic(&unnamed), &key()), Err(ReportRefusal::Malformed), "a name that is none");
}

fn any_load() -> impl Strategy<Value = ReportedLoad> {
    let state = prop::sample::select(vec![ServerState::Up, ServerState::Drain, ServerState::Down]);
    let listening = [Listening::Unobserved, Listening::Never, Listening::Yes, Listening::NoLonger];
    let port = (any::<u16>(), prop::sample::select(listening.to_vec()));
    let numbers = (any::<[Option<u32>; 5]>(), any::<[Option<u16>; 2]>(), any::<Option<u64>>());
    ("[A-Za-z0-9._-]{1,31}", state, port, numbers).prop_map(
        |(backend, state, (port, listening), (wide, narrow, rate))| ReportedLoad {
            backend: name(&backend),
            port,
            listening,
            state,
            clients: wide[0],
            in_flight: wide[1],
            cpu_permille: narrow[0],
            memory_permille: narrow[1],
            execution_us: wide[2],
            requests_per_s_milli: rate,
            workers: wide[3].and_then(NonZeroU32::new),
            busy_milli: wide[4],
        },
    )
}

fn any_report(most_loads: usize) -> impl Strategy<Value = LoadReport> {
    let loads = prop::collection::vec(any_load(), 0..=most_loads);
    ("[A-Za-z0-9._-]{1,31}", any::<(u64, u64, u16)>(), loads).prop_map(
        |(agent, (boot_epoch, sequence, period_ms), loads)| LoadReport {
            agent: name(&agent),
            boot_epoch,
            sequence,
            period_ms,
            loads,
        },
    )
}

proptest! {
    #[test]
    fn there_and_back_is_the_original(report in any_report(MOST_LOADS)) {
        prop_assume!(report.agent.as_str() != "stranger");
        prop_assert_eq!(open_with(&seal(&report, &key()).unwrap(), &key()), Ok(report));
    }

    #[test]
    fn arbitrary_datagrams_never_panic(datagram in prop::collection::vec(any::<u8>(), 0..120)) {
        prop_assert!(open_with(&datagram, &key()).is_err());
    }

    /// What a holder of the key could send.
    #[test]
    fn authentic_arbitrary_bodies_never_panic(body in prop::collection::vec(any::<u8>(), 0..160)) {
        let opened = open_with(&authentic(&body), &key());
        prop_assert!(matches!(opened, Ok(_) | Err(ReportRefusal::Malformed)), "{opened:?}");
    }

    #[test]
    fn changed_authentic_bodies_never_panic(report in any_report(2), at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        let datagram = seal(&report, &key()).unwrap();
        let name_bytes = report.agent.as_str().len();
        let mut body = datagram[HEADER_BYTES + name_bytes..datagram.len() - TAG_BYTES].to_vec();
        *at.get_mut(&mut body) = byte;
        body.truncate(1 + cut.index(body.len()));
        let opened = open_with(&authentic(&body), &key());
        prop_assert!(matches!(opened, Ok(_) | Err(ReportRefusal::Malformed)), "{opened:?}");
    }

    #[test]
    fn changed_datagrams_never_panic_and_never_open(report in any_report(2), at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let mut datagram = seal(&report, &key()).unwrap();
        *at.get_mut(&mut datagram) ^= flip;
        prop_assert!(open_with(&datagram, &key()).is_err());
    }
}
