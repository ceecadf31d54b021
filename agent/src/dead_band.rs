//! The dead band: a load change that exceeds it is reported at once, any other with the next report.

use shunt_report::ReportedLoad;

/// Minimum reference for relative changes; below it every change would exceed the dead band.
const SMALLEST_CHANGE: u32 = 8;

/// Returns true if `now` differs from `reported` by `permille`: relative to the larger number for counts of connections and
/// requests, absolute for shares. A change of state or of listening always exceeds it.
pub fn exceeds_dead_band(reported: &[ReportedLoad], now: &[ReportedLoad], permille: u16) -> bool {
    reported.len() != now.len() || reported.iter().zip(now).any(|(reported, now)| differ(reported, now, permille))
}

fn differ(reported: &ReportedLoad, now: &ReportedLoad, permille: u16) -> bool {
    let counts = |reported: Option<u32>, now: Option<u32>| match (reported, now) {
        (Some(reported), Some(now)) => {
            let change = u64::from(reported.abs_diff(now));
            change >= SMALLEST_CHANGE.into() && change * 1000 >= u64::from(reported.max(now)) * u64::from(permille)
        }
        // Whether a value is known does not depend on the server's load.
        _ => false,
    };
    let shares = |reported: Option<u16>, now: Option<u16>| {
        reported.zip(now).is_some_and(|(reported, now)| reported.abs_diff(now) >= permille)
    };
    reported.state != now.state
        || reported.listening != now.listening
        || counts(reported.in_flight, now.in_flight)
        || counts(reported.clients, now.clients)
        || shares(reported.cpu_permille, now.cpu_permille)
        || shares(reported.memory_permille, now.memory_permille)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_report::{Listening, ServerState};

    fn load(in_flight: Option<u32>, cpu_permille: Option<u16>) -> Vec<ReportedLoad> {
        vec![ReportedLoad { in_flight, cpu_permille, ..ReportedLoad::unknown("b1".parse().unwrap()) }]
    }

    #[test]
    fn a_change_by_its_share_exceeds() {
        let exceeds = |reported, now| exceeds_dead_band(&load(Some(reported), None), &load(Some(now), None), 500);
        assert!(exceeds(20, 40) && exceeds(40, 20) && exceeds(0, 8));
        assert!(!exceeds(20, 39) && !exceeds(0, 7) && !exceeds(100, 100));
        assert!(!exceeds_dead_band(&load(None, None), &load(Some(100), None), 500), "known for the first time");
        assert!(exceeds_dead_band(&load(None, Some(200)), &load(None, Some(700)), 500));
        assert!(!exceeds_dead_band(&load(None, Some(201)), &load(None, Some(700)), 500));
        assert!(exceeds(0, u32::MAX));
    }

    #[test]
    fn another_state_exceeds() {
        let mut down = load(None, None);
        down[0].state = ServerState::Down;
        assert!(exceeds_dead_band(&load(None, None), &down, 10_000));
        assert!(exceeds_dead_band(&[], &down, 10_000), "the first report");
        let mut listening = load(None, None);
        listening[0].listening = Listening::Yes;
        assert!(exceeds_dead_band(&load(None, None), &listening, 10_000));
    }
}
