//! nginx's stub_status page (ngx_http_stub_status_module). It counts the server's connections and requests on all ports; a
//! request counts from its first byte, which is accurate enough over half a second.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::poll::PollFlags;

use super::Source;
use super::http::Fetch;
use super::log_latch::LogLatch;
use super::number::narrowed;
use super::window::{Window, microseconds};
use crate::settings::Page;
use shunt_report::ReportedLoad;

/// The page's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Status {
    active: u64,
    requests: u64,
    waiting: u64,
}

/// One nginx server.
pub struct Nginx {
    fetch: Fetch,
    begun: Instant,
    /// The agent's own requests.
    own: u64,
    in_flight: Option<u64>,
    /// Requests over time, microseconds.
    rate: Window,
    /// Time of requests in flight over requests: the mean execution time, by Little's law.
    execution: Window,
    spent_us: u64,
    answered: Option<Instant>,
    latch: LogLatch,
}

impl Nginx {
    /// Not yet requested.
    pub fn new(page: &Page, now: Instant) -> Self {
        Self {
            fetch: Fetch::new(page),
            begun: now,
            own: 0,
            in_flight: None,
            rate: Window::default(),
            execution: Window::default(),
            spent_us: 0,
            answered: None,
            latch: LogLatch::new(format!("nginx at {}{}", page.address, page.path)),
        }
    }

    fn record(&mut self, status: Status, now: Instant) {
        // The request for this page is in flight as well.
        let in_flight = status.active.saturating_sub(status.waiting).saturating_sub(1);
        let requests = status.requests.saturating_sub(self.own);
        let elapsed_us = self.answered.map_or(0, |answered| microseconds(answered, now));
        self.spent_us = self.spent_us.saturating_add(in_flight.saturating_mul(elapsed_us));
        self.rate.record(now, microseconds(self.begun, now), requests);
        self.execution.record(now, requests, self.spent_us);
        self.in_flight = Some(in_flight);
        self.answered = Some(now);
    }

    /// Unknown values are better than outdated ones.
    fn forget(&mut self) {
        (self.in_flight, self.answered) = (None, None);
        (self.rate, self.execution) = (Window::default(), Window::default());
    }
}

impl Source for Nginx {
    fn ask(&mut self, now: Instant) {
        match self.fetch.ask(now) {
            Ok(asked) => self.own += u64::from(asked),
            Err(error) => {
                self.latch.report(error);
                self.forget();
            }
        }
    }

    fn awaited(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.fetch.awaited()
    }

    fn advance(&mut self, now: Instant) {
        let read = match self.fetch.advance(now) {
            None => return,
            Some(fetched) => fetched
                .map_err(|error| error.to_string())
                .and_then(|page| parse(&page).ok_or_else(|| "this is not a stub_status page".to_owned())),
        };
        match read {
            Ok(status) => {
                self.record(status, now);
                self.latch.clear();
            }
            Err(error) => {
                self.latch.report(error);
                self.forget();
            }
        }
    }

    fn contribute(&self, load: &mut ReportedLoad) {
        load.in_flight = self.in_flight.map(|number| narrowed(number, u32::MAX)).or(load.in_flight);
        load.requests_per_s_milli = self.rate.ratio(1_000_000_000).or(load.requests_per_s_milli);
        load.execution_us = self.execution.ratio(1).map(|us| narrowed(us, u32::MAX)).or(load.execution_us);
    }
}

/// "Active connections: 2", a line of headings, accepts, handled and requests, "Reading: 0 Writing: 1 Waiting: 1".
fn parse(page: &[u8]) -> Option<Status> {
    let mut lines = std::str::from_utf8(page).ok()?.lines();
    let active = lines.next()?.strip_prefix("Active connections:")?.trim().parse().ok()?;
    lines.next()?;
    let requests = lines.next()?.split_whitespace().nth(2)?.parse().ok()?;
    let mut words = lines.next()?.split_whitespace();
    words.find(|word| *word == "Waiting:")?;
    Some(Status { active, requests, waiting: words.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PAGE: &[u8] = b"Active connections: 291 \nserver accepts handled requests\n \
        16630948 16630948 31070465 \nReading: 6 Writing: 179 Waiting: 106 \n";

    #[test]
    fn the_page_is_understood_and_nothing_else() {
        assert_eq!(parse(PAGE), Some(Status { active: 291, requests: 31_070_465, waiting: 106 }));
        for other in [&b""[..], b"<html>", b"Active connections: -1\n\n1 1 1\nWaiting: 0", &PAGE[..90], b"\xff"] {
            assert_eq!(parse(other), None);
        }
    }

    #[test]
    fn load_is_what_the_numbers_say_without_the_agent_s_own_requests() {
        let begin = Instant::now();
        let page = Page { address: "127.0.0.1:1".parse().unwrap(), path: "/".to_owned(), host: "x".to_owned() };
        let mut nginx = Nginx::new(&page, begin);
        // 20 in flight all the time, 1000 requests each second: 20 ms each.
        for turn in 0..20_u64 {
            nginx.own += 1;
            let status = Status { active: 31, waiting: 10, requests: 50 * turn + nginx.own };
            nginx.record(status, begin + Duration::from_millis(50) * turn as u32);
        }
        let mut load = ReportedLoad::unknown("b1".parse().unwrap());
        nginx.contribute(&mut load);
        assert_eq!(load.in_flight, Some(20));
        assert_eq!(load.requests_per_s_milli, Some(1_000_000));
        assert_eq!(load.execution_us, Some(20_000));
        nginx.forget();
        let mut load = ReportedLoad::unknown("b1".parse().unwrap());
        nginx.contribute(&mut load);
        assert_eq!(load, ReportedLoad::unknown("b1".parse().unwrap()));
    }
}
