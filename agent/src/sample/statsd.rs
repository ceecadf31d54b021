//! Metrics that applications push as StatsD lines to a local UNIX datagram socket: gauges, counters, timings.
//!
//! ```text
//!  app.in_flight:12|g        app.in_flight:-1|g: one less
//!  app.requests:1|c|@0.1     one of ten was sent
//!  app.time:3.25|ms
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::number::{fixed_point, narrowed, workers};
use super::window::{Window, microseconds};
use crate::settings::Metrics;
use shunt_report::ReportedLoad;

/// Limit of datagrams per turn, so that a flood cannot prevent reports.
const MOST_IN_A_TURN: usize = 512;
const LONGEST_DATAGRAM_BYTES: usize = 8192;

/// The socket; dropping it removes its file.
pub struct Socket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Socket {
    /// Binds the socket at `path`, and replaces one that an earlier agent left.
    pub fn open(path: &Path) -> io::Result<Self> {
        if path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket()) {
            std::fs::remove_file(path)?;
        }
        let socket = UnixDatagram::bind(path)?;
        // Applications run as other users; the directory's permissions decide who may push.
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o666))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// The socket, to poll.
    pub fn awaited(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads pending datagrams; returns true if there were any.
    pub fn take(&self, mut record: impl FnMut(&str, Value)) -> bool {
        let mut bytes = [0; LONGEST_DATAGRAM_BYTES];
        for turn in 0..MOST_IN_A_TURN {
            let Ok(length) = self.socket.recv(&mut bytes) else {
                return turn > 0;
            };
            let text = String::from_utf8_lossy(&bytes[..length]);
            text.lines().filter_map(parse).for_each(|(name, value)| record(name, value));
        }
        true
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A parsed line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Sets the gauge.
    Gauge(u64),
    /// Changes the gauge.
    Change(i64),
    /// Increments the counter.
    Count(u64),
    /// Adds timings.
    Timing {
        /// Microseconds each.
        each_us: u64,
        /// Number of timings.
        count: u64,
    },
}

/// Parses one line; `None` if it is not understood, since the socket may receive other metrics too.
fn parse(line: &str) -> Option<(&str, Value)> {
    let (name, rest) = line.rsplit_once(':')?;
    let mut parts = rest.split('|');
    let (number, kind) = (parts.next()?, parts.next()?);
    let rate_millionths = match parts.find_map(|part| part.strip_prefix('@')) {
        Some(rate) => fixed_point(rate, 6).filter(|rate| (1..=1_000_000).contains(rate))?,
        None => 1_000_000,
    };
    // A sampled value counts several times.
    let all_of = |sent: u64| sent.checked_mul(1_000_000).map(|sent| sent / rate_millionths);
    let value = match kind {
        "g" => match number.as_bytes().first()? {
            b'+' => Value::Change(fixed_point(&number[1..], 0)?.try_into().ok()?),
            b'-' => Value::Change(-i64::try_from(fixed_point(&number[1..], 0)?).ok()?),
            _ => Value::Gauge(fixed_point(number, 0)?),
        },
        "c" => Value::Count(all_of(fixed_point(number, 0)?)?),
        "ms" => Value::Timing { each_us: fixed_point(number, 3)?, count: all_of(1)? },
        _ => return None,
    };
    Some((name, value))
}

/// The pushed metrics of one back-end.
pub struct Pushed {
    metrics: Metrics,
    begun: Instant,
    in_flight: Option<u64>,
    requests: Option<u64>,
    executed: u64,
    executed_us: u64,
    /// Totals, regardless of reports.
    worked_us: Option<u64>,
    rate: Window,
    /// Execution time over time, both in microseconds.
    busy: Window,
    workers: Option<u64>,
}

impl Pushed {
    /// No values yet.
    pub fn new(metrics: &Metrics, now: Instant) -> Self {
        Self {
            metrics: metrics.clone(),
            begun: now,
            in_flight: None,
            requests: None,
            executed: 0,
            executed_us: 0,
            worked_us: None,
            rate: Window::default(),
            busy: Window::default(),
            workers: None,
        }
    }

    /// Records a value if its name is one of this back-end's.
    pub fn record(&mut self, name: &str, value: Value) {
        let is = |wanted: &Option<String>| wanted.as_deref() == Some(name);
        let Metrics { in_flight, requests, execution, workers } = &self.metrics;
        match value {
            Value::Gauge(number) if is(in_flight) => self.in_flight = Some(number),
            Value::Change(change) if is(in_flight) => {
                self.in_flight = Some(self.in_flight.unwrap_or(0).saturating_add_signed(change));
            }
            Value::Gauge(number) if is(workers) => self.workers = Some(number),
            Value::Count(count) if is(requests) => {
                self.requests = Some(self.requests.unwrap_or(0).saturating_add(count));
            }
            Value::Timing { each_us, count } if is(execution) => {
                let all_us = each_us.saturating_mul(count);
                self.executed = self.executed.saturating_add(count);
                self.executed_us = self.executed_us.saturating_add(all_us);
                self.worked_us = Some(self.worked_us.unwrap_or(0).saturating_add(all_us));
                if requests.is_none() {
                    self.requests = Some(self.requests.unwrap_or(0).saturating_add(count));
                }
            }
            _ => {}
        }
    }

    /// Samples the counters.
    pub fn look(&mut self, now: Instant) {
        if let Some(requests) = self.requests {
            self.rate.record(now, microseconds(self.begun, now), requests);
        }
        if let Some(us) = self.worked_us {
            self.busy.record(now, microseconds(self.begun, now), us);
        }
    }

    /// Adds the pushed metrics to the back-end's load.
    pub fn contribute(&self, load: &mut ReportedLoad) {
        load.in_flight = self.in_flight.map(|number| narrowed(number, u32::MAX)).or(load.in_flight);
        load.requests_per_s_milli = self.rate.ratio(1_000_000_000).or(load.requests_per_s_milli);
        let mean_us = self.executed_us.checked_div(self.executed);
        load.execution_us = mean_us.map(|us| narrowed(us, u32::MAX)).or(load.execution_us);
        load.workers = self.workers.and_then(workers).or(load.workers);
        load.busy_milli = self.busy.ratio(1000).map(|number| narrowed(number, u32::MAX)).or(load.busy_milli);
    }

    /// Restarts the mean execution time for the next report.
    pub fn begin_report(&mut self) {
        (self.executed, self.executed_us) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::num::NonZeroU32;
    use std::time::Duration;

    #[test]
    fn lines_are_understood_as_statsd_means_them() {
        for (line, value) in [
            ("a:12|g", Some(("a", Value::Gauge(12)))),
            ("a.b:+3|g", Some(("a.b", Value::Change(3)))),
            ("a:3|g|#tag", Some(("a", Value::Gauge(3)))),
            ("a:-3|g", Some(("a", Value::Change(-3)))),
            ("a:2|c|@0.1", Some(("a", Value::Count(20)))),
            ("a:2|c|@0", None),
            ("a:2|c|@7", None),
            ("a:3.25|ms", Some(("a", Value::Timing { each_us: 3250, count: 1 }))),
            ("a:3|ms|@0.5", Some(("a", Value::Timing { each_us: 3000, count: 2 }))),
            ("a:x|g", None),
            ("a:1|s", None),
            ("a:|g", None),
            ("a:\u{e4}|g", None),
            ("a", None),
            ("a:1", None),
        ] {
            assert_eq!(parse(line), value, "{line}");
        }
    }

    #[test]
    fn what_is_pushed_is_the_load() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statsd.sock");
        drop(UnixDatagram::bind(&path).unwrap());
        let socket = Socket::open(&path).unwrap();
        let begin = Instant::now();
        let name = |text: &str| Some(text.to_owned());
        let metrics =
            Metrics { in_flight: name("busy"), requests: None, execution: name("time"), workers: name("workers") };
        let mut pushed = Pushed::new(&metrics, begin);
        let application = UnixDatagram::unbound().unwrap();
        for text in
            ["busy:7|g\ntime:10|ms\nother:1|g\n", "busy:-2|g", "time:20|ms", "workers:4|g", "nonsense", "time:1|g"]
        {
            application.send_to(text.as_bytes(), &path).unwrap();
        }
        pushed.look(begin);
        assert!(socket.take(|name, value| pushed.record(name, value)));
        assert!(!socket.take(|name, value| pushed.record(name, value)), "taken twice");
        let mut load = ReportedLoad::unknown("b1".parse().unwrap());
        pushed.contribute(&mut load);
        assert_eq!((load.in_flight, load.execution_us, load.workers), (Some(5), Some(15_000), NonZeroU32::new(4)));
        pushed.record("workers", Value::Gauge(0));
        load.workers = None;
        pushed.contribute(&mut load);
        assert_eq!(load.workers, None, "0 says nothing");
        pushed.begin_report();
        load.execution_us = None;
        pushed.contribute(&mut load);
        assert_eq!((load.in_flight, load.execution_us), (Some(5), None));
        pushed.look(begin + Duration::from_millis(100));
        pushed.record("time", Value::Timing { each_us: 3000, count: 50 });
        pushed.look(begin + Duration::from_millis(200));
        pushed.contribute(&mut load);
        assert_eq!(
            (load.requests_per_s_milli, load.busy_milli),
            (Some(500_000), Some(1500)),
            "150 ms of work in 100 ms"
        );
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_in_the_socket_s_place_stays() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Socket::open(file.path()).is_err());
        assert!(file.path().exists());
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(line in "([a-z]{0,3}:)?[+-]?[0-9.]{0,25}(\\|(g|c|ms|.))?(\\|@[0-9.]{0,9})?.{0,5}") {
            if let Some((_, value)) = parse(&line) {
                let name = Some("a".to_owned());
                let metrics = Metrics { in_flight: name.clone(), requests: name.clone(), workers: name.clone(), execution: name };
                let mut pushed = Pushed::new(&metrics, Instant::now());
                pushed.record("a", value);
                pushed.record("a", value);
            }
        }
    }
}
