//! The tasks of all checks; a configuration change starts and stops them.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::as_client::Paths;
use super::hysteresis::Hysteresis;
use super::{BackendKey, Check, Health, HealthUpdate, probe};
use crate::tasks::Tasks;

/// Runs checks on the current tokio runtime until dropped.
pub struct Checker {
    running: Tasks<Check>,
    reports: mpsc::UnboundedSender<HealthUpdate>,
    paths: watch::Sender<Paths>,
}

impl Checker {
    /// Starts without checks; sends updates to the receiver. The channel is unbounded because a task sends at most one
    /// update per interval, and only changes.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<HealthUpdate>) {
        let (reports, receiver) = mpsc::unbounded_channel();
        (Self { running: Tasks::default(), reports, paths: watch::Sender::default() }, receiver)
    }

    /// Runs exactly these checks from now on; unchanged ones continue. A new or changed check starts from the given health:
    /// the previous one, or up for an unknown backend, so that traffic flows at once and a dead backend is out after `fall`
    /// attempts.
    pub fn apply(&mut self, checks: Vec<(Check, Health)>) {
        let (reports, paths) = (&self.reports, &self.paths);
        let health: BTreeMap<BackendKey, Health> =
            checks.iter().map(|(check, health)| (check.key.clone(), *health)).collect();
        self.running.apply(checks.into_iter().map(|(check, _)| (check.key.clone(), check)), |key, check| {
            let initial = health.get(key).copied().unwrap_or(Health::Up);
            tokio::spawn(repeat(check.clone(), initial, paths.subscribe(), reports.clone())).abort_handle()
        });
    }

    /// Sets the paths of checks that take a client's path.
    pub fn set_paths(&self, paths: Paths) {
        self.paths.send_if_modified(|before| {
            let differs = *before != paths;
            *before = paths;
            differs
        });
    }
}

/// Runs a check until the receiver is dropped.
async fn repeat(
    check: Check,
    initial: Health,
    mut paths: watch::Receiver<Paths>,
    reports: mpsc::UnboundedSender<HealthUpdate>,
) {
    let mut hysteresis = Hysteresis::new(initial, check.rise, check.fall);
    // Spreads the first attempts over half an interval; otherwise a start with a thousand backends would probe all of them
    // at once.
    let mut next = Instant::now() + check.interval.mul_f64(random_fraction() / 2.0);
    let mut told = None;
    loop {
        sleep_until(next).await;
        next = Instant::now() + jittered(check.interval);
        let result = probe::ask(&check, &mut paths).await;
        let (passed, is_change) = (result.is_ok(), hysteresis.record(result.is_ok()).is_some());
        let reason = match result {
            Ok(()) => format!("{check} answers"),
            Err(failure) => format!("{check}: {failure}"),
        };
        let health = hysteresis.health();
        let is_still_down = !passed && health == Health::Down;
        let is_new = is_change || is_still_down && told.as_ref() != Some(&reason);
        if !is_new {
            continue;
        }
        told = Some(reason.clone());
        if reports.send(HealthUpdate { key: check.key.clone(), health, is_change, reason }).is_err() {
            return;
        }
    }
}

/// Varies `interval` by a tenth, so that checks do not synchronise.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * random_fraction())
}

/// From 0 to 1. The random keys of the standard hasher suffice here.
fn random_fraction() -> f64 {
    RandomState::new().hash_one(()) as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::{Ipv4Addr, SocketAddr};

    use shunt_config::Probe;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    fn check(backend: &str, target: SocketAddr) -> Check {
        Check {
            key: BackendKey { service: "web".into(), backend: backend.into() },
            target,
            way: None,
            probe: Probe::Tcp,
            interval: Duration::from_millis(5),
            timeout: Duration::from_secs(10),
            rise: 2,
            fall: 3,
        }
    }

    fn up(checks: Vec<Check>) -> Vec<(Check, Health)> {
        checks.into_iter().map(|check| (check, Health::Up)).collect()
    }

    async fn listen(port: u16) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn a_backend_that_dies_and_returns_is_reported_each_time() {
        let (listener, address) = listen(0).await;
        let (mut checker, mut reports) = Checker::new();
        checker.apply(vec![(check("b1", address), Health::Down)]);
        assert_eq!(reports.recv().await.unwrap().health, Health::Up);
        drop(listener);
        let down = reports.recv().await.unwrap();
        assert_eq!((down.key.backend.as_str(), down.health), ("b1", Health::Down));
        assert!(down.reason.contains("cannot connect"), "{}", down.reason);
        let _listener = listen(address.port()).await;
        assert_eq!(reports.recv().await.unwrap().health, Health::Up);
    }

    #[tokio::test]
    async fn an_unchanged_check_keeps_its_task_and_a_changed_one_gets_another() {
        let (_listener, address) = listen(0).await;
        let (mut checker, _reports) = Checker::new();
        let both = [check("b1", address), check("b2", address)];
        checker.apply(up(both.to_vec()));
        let task = |checker: &Checker, n: usize| checker.running.handle(&both[n].key).id();
        let before = [task(&checker, 0), task(&checker, 1)];
        let changed = Check { fall: 9, ..both[1].clone() };
        checker.apply(up(vec![both[0].clone(), changed]));
        assert_eq!(task(&checker, 0), before[0]);
        assert_ne!(task(&checker, 1), before[1]);
    }

    #[tokio::test]
    async fn a_check_taken_out_stops() {
        let (_listener, address) = listen(0).await;
        let (mut checker, _reports) = Checker::new();
        checker.apply(up(vec![check("b1", address)]));
        let task = checker.running.handle(&check("b1", address).key).clone();
        checker.apply(vec![]);
        assert!(checker.running.is_empty());
        while !task.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_new_check_starts_as_the_caller_says() {
        let (listener, dead) = listen(0).await;
        drop(listener);
        let (mut checker, mut reports) = Checker::new();
        let down_already = vec![check("a", dead), check("b", dead)];
        checker.apply(down_already.iter().cloned().zip([Health::Down, Health::Up]).collect());
        let mut reported = HashMap::new();
        for _ in 0..2 {
            let report = reports.recv().await.unwrap();
            reported.insert(report.key.backend, report.is_change);
        }
        // The first only tells why.
        assert_eq!(reported, HashMap::from([("a".to_owned(), false), ("b".to_owned(), true)]));
        // Both are known to be down by now: only one that starts as up has anything to tell.
        checker.apply(up([down_already, vec![check("c", dead)]].concat()));
        assert_eq!(reports.recv().await.unwrap().key.backend, "c");
    }

    #[tokio::test]
    async fn another_reason_for_being_down_is_reported() {
        let (listener, address) = listen(0).await;
        drop(listener);
        let (mut checker, mut reports) = Checker::new();
        let probe = Probe::Http { path: "/".into(), host: None, status_first: 200, status_last: 399 };
        checker.apply(up(vec![Check { probe, ..check("b1", address) }]));
        let refused = reports.recv().await.unwrap();
        assert!(refused.is_change && refused.reason.contains("cannot connect"), "{refused:?}");
        let (listener, _) = listen(address.port()).await;
        let garbage = async {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let _ = connection.write_all(b"220 mail\r\n").await;
            }
        };
        let other = tokio::select! {
            report = reports.recv() => report.unwrap(),
            () = garbage => unreachable!("it never ends"),
        };
        assert!(!other.is_change && other.health == Health::Down, "{other:?}");
        assert!(!other.reason.contains("cannot connect"), "{other:?}");
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        let interval = Duration::from_millis(1000);
        let all: Vec<_> = (0..1000).map(|_| jittered(interval).as_millis()).collect();
        assert!(all.iter().all(|ms| (900..=1100).contains(ms)));
        assert!(all.iter().any(|ms| *ms < 950) && all.iter().any(|ms| *ms > 1050));
    }
}
