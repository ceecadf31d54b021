//! A page in Prometheus' text format; each metric is summed over all its labels.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::poll::PollFlags;

use super::Source;
use super::http::Fetch;
use super::log_latch::LogLatch;
use super::number::{narrowed, scaled, workers};
use super::window::{Window, microseconds};
use crate::settings::{Metrics, Prometheus as Settings};
use shunt_report::ReportedLoad;

/// Sums of the configured metrics on a page.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Sums {
    in_flight: Option<f64>,
    requests: Option<f64>,
    execution_s: Option<f64>,
    executed: Option<f64>,
    workers: Option<f64>,
}

/// A server with a Prometheus page.
pub struct Prometheus {
    fetch: Fetch,
    metrics: Metrics,
    begun: Instant,
    in_flight: Option<u64>,
    rate: Window,
    /// Completed requests and their total time in microseconds, at the last sample.
    executed: Option<(u64, u64)>,
    execution_us: Option<u64>,
    /// Execution time over time, both in microseconds.
    busy: Window,
    workers: Option<u64>,
    latch: LogLatch,
}

impl Prometheus {
    /// Not yet requested.
    pub fn new(settings: &Settings, now: Instant) -> Self {
        let Settings { page, metrics } = settings;
        Self {
            fetch: Fetch::new(page),
            metrics: metrics.clone(),
            begun: now,
            in_flight: None,
            rate: Window::default(),
            executed: None,
            execution_us: None,
            busy: Window::default(),
            workers: None,
            latch: LogLatch::new(format!("metrics at {}{}", page.address, page.path)),
        }
    }

    fn record(&mut self, sums: Sums, now: Instant) {
        self.in_flight = sums.in_flight.and_then(|number| scaled(number, 1.0));
        self.workers = sums.workers.and_then(|number| scaled(number, 1.0));
        if let Some(requests) = sums.requests.or(sums.executed).and_then(|number| scaled(number, 1.0)) {
            self.rate.record(now, microseconds(self.begun, now), requests);
        }
        let execution_us = sums.execution_s.and_then(|seconds| scaled(seconds, 1e6));
        if let Some(us) = execution_us {
            self.busy.record(now, microseconds(self.begun, now), us);
        }
        let executed = sums.executed.and_then(|number| scaled(number, 1.0)).zip(execution_us);
        self.execution_us = self.executed.zip(executed).and_then(|((count, us), (count_now, us_now))| {
            us_now.checked_sub(us)?.checked_div(count_now.checked_sub(count)?)
        });
        self.executed = executed;
    }

    /// Unknown values are better than outdated ones.
    fn forget(&mut self) {
        (self.in_flight, self.executed, self.execution_us, self.workers) = (None, None, None, None);
        (self.rate, self.busy) = (Window::default(), Window::default());
    }

    /// A configured metric that is not on the page.
    fn missing(&self, sums: &Sums) -> Option<String> {
        let Metrics { in_flight, requests, execution, workers } = &self.metrics;
        let is_missing = [
            (in_flight, sums.in_flight.is_none()),
            (requests, sums.requests.is_none()),
            (workers, sums.workers.is_none()),
            (execution, sums.execution_s.is_none() || sums.executed.is_none()),
        ];
        let missing = is_missing.into_iter().find_map(|(name, is_missing)| name.as_ref().filter(|_| is_missing))?;
        Some(format!("has no metric {missing:?}"))
    }
}

impl Source for Prometheus {
    fn ask(&mut self, now: Instant) {
        if let Err(error) = self.fetch.ask(now) {
            self.latch.report(error);
            self.forget();
        }
    }

    fn awaited(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.fetch.awaited()
    }

    fn advance(&mut self, now: Instant) {
        match self.fetch.advance(now) {
            None => {}
            Some(Ok(page)) => {
                let sums = sum(&String::from_utf8_lossy(&page), &self.metrics);
                self.record(sums, now);
                match self.missing(&sums) {
                    Some(missing) => self.latch.report(missing),
                    None => self.latch.clear(),
                }
            }
            Some(Err(error)) => {
                self.latch.report(error);
                self.forget();
            }
        }
    }

    fn contribute(&self, load: &mut ReportedLoad) {
        load.in_flight = self.in_flight.map(|number| narrowed(number, u32::MAX)).or(load.in_flight);
        load.requests_per_s_milli = self.rate.ratio(1_000_000_000).or(load.requests_per_s_milli);
        load.execution_us = self.execution_us.map(|us| narrowed(us, u32::MAX)).or(load.execution_us);
        load.workers = self.workers.and_then(workers).or(load.workers);
        load.busy_milli = self.busy.ratio(1000).map(|number| narrowed(number, u32::MAX)).or(load.busy_milli);
    }
}

fn sum(page: &str, metrics: &Metrics) -> Sums {
    let mut sums = Sums::default();
    for (name, value) in page.lines().filter_map(parse_line) {
        let part_of = |wanted: &Option<String>, suffix: &str| {
            wanted.as_ref().is_some_and(|wanted| name.strip_prefix(wanted.as_str()) == Some(suffix))
        };
        let add = |sum: &mut Option<f64>| *sum = Some(sum.unwrap_or(0.0) + value);
        if part_of(&metrics.in_flight, "") {
            add(&mut sums.in_flight);
        }
        if part_of(&metrics.requests, "") {
            add(&mut sums.requests);
        }
        if part_of(&metrics.workers, "") {
            add(&mut sums.workers);
        }
        if part_of(&metrics.execution, "_sum") {
            add(&mut sums.execution_s);
        }
        if part_of(&metrics.execution, "_count") {
            add(&mut sums.executed);
        }
    }
    sums
}

/// `name{label="value",...} number [time]`. A label's value may contain any character, including an escaped brace, but the
/// number follows the last brace.
fn parse_line(line: &str) -> Option<(&str, f64)> {
    // An OpenMetrics exemplar, after " # ", has braces of its own.
    let line = line.split(" # ").next()?;
    let name = line.split(|c: char| c == '{' || c.is_whitespace()).next().filter(|name| !name.is_empty())?;
    let numbers = line.rfind('}').map_or(&line[name.len()..], |brace| &line[brace + 1..]);
    let value: f64 = numbers.split_whitespace().next()?.parse().ok()?;
    value.is_finite().then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Page;
    use proptest::prelude::*;
    use std::num::NonZeroU32;
    use std::time::Duration;

    fn metrics() -> Metrics {
        let name = |text: &str| Some(text.to_owned());
        Metrics {
            in_flight: name("in_flight"),
            requests: name("requests_total"),
            execution: name("duration_seconds"),
            workers: name("workers"),
        }
    }

    const PAGE: &str = r#"# HELP in_flight Requests being served.
# TYPE in_flight gauge
in_flight{server="a"} 3
in_flight{server="b",path="/x{y} \"z\" }"} 4 1395066363000
in_flight_more 100
workers{pool="a"} 8
workers{pool="b"} 4
requests_total 1.027e+03
duration_seconds_bucket{le="+Inf"} 100
duration_seconds_sum 12.5
duration_seconds_count 100 # {trace_id="x"} 0.5
nonsense
other NaN
"#;

    #[test]
    fn metrics_are_summed_over_their_labels() {
        let sums = sum(PAGE, &metrics());
        let expected = Sums {
            in_flight: Some(7.0),
            requests: Some(1027.0),
            execution_s: Some(12.5),
            executed: Some(100.0),
            workers: Some(12.0),
        };
        assert_eq!(sums, expected);
        assert_eq!(sum("requests_total NaN\nin_flight{", &metrics()), Sums::default());
    }

    #[test]
    fn load_is_how_the_sums_grow() {
        let begin = Instant::now();
        let page = Page { address: "127.0.0.1:1".parse().unwrap(), path: "/".to_owned(), host: "x".to_owned() };
        let mut server = Prometheus::new(&Settings { page, metrics: metrics() }, begin);
        let page = |in_flight, executed: f64| Sums {
            in_flight: Some(in_flight),
            requests: None,
            execution_s: Some(executed * 0.004),
            executed: Some(executed),
            workers: Some(8.0),
        };
        server.record(page(5.0, 1000.0), begin);
        server.record(page(6.0, 1050.0), begin + Duration::from_millis(100));
        let mut load = ReportedLoad::unknown("b1".parse().unwrap());
        server.contribute(&mut load);
        assert_eq!(
            (load.in_flight, load.execution_us, load.requests_per_s_milli),
            (Some(6), Some(4000), Some(500_000))
        );
        assert_eq!((load.workers, load.busy_milli), (NonZeroU32::new(8), Some(2000)), "200 ms of work in 100 ms");
        server.workers = Some(0);
        load.workers = NonZeroU32::new(16);
        server.contribute(&mut load);
        assert_eq!(load.workers, NonZeroU32::new(16), "0 leaves what is known otherwise");
        server.record(page(6.0, 1050.0), begin + Duration::from_millis(150));
        server.contribute(&mut load);
        assert_eq!(server.execution_us, None, "none ended");
        server.record(page(6.0, 10.0), begin + Duration::from_millis(200));
        assert_eq!(server.execution_us, None, "begun anew");
        assert_eq!(server.missing(&page(6.0, 10.0)), Some("has no metric \"requests_total\"".to_owned()));
    }

    proptest! {
        #[test]
        fn arbitrary_pages_never_panic(page in "(?s)([a-z_]{0,5}|in_flight|[{}\"# \n.0-9]|.){0,40}") {
            let _ = sum(&page, &metrics());
        }
    }
}
