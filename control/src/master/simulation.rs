//! A simulated pool for the tests of the algorithms: servers with workers and a queue, Poisson arrivals shared out by
//! weight, reports that arrive late. Deterministic: the same seed gives the same run.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Nanoseconds, so that events have a total order.
type Time = u64;
const MS: Time = 1_000_000;

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 (excluded) to 1.
    pub fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 1.0) / (1u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.unit().ln()
    }
}

/// A server.
pub struct SimulatedServer {
    /// Requests at a time.
    pub workers: usize,
    /// Mean execution time, exponentially distributed.
    pub mean_ms: f64,
    queue: VecDeque<Time>,
    busy: usize,
    ended: u64,
    execution_ms: f64,
    sojourn_ms: f64,
}

impl SimulatedServer {
    pub fn new(workers: usize, mean_ms: f64) -> Self {
        Self { workers, mean_ms, queue: VecDeque::new(), busy: 0, ended: 0, execution_ms: 0.0, sojourn_ms: 0.0 }
    }

    fn in_flight(&self) -> usize {
        self.busy + self.queue.len()
    }

    /// Requests a second that it can serve.
    pub fn capacity(&self) -> f64 {
        self.workers as f64 * 1000.0 / self.mean_ms
    }
}

/// What a server reports.
#[derive(Clone, Copy, Debug)]
pub struct SimulatedReport {
    pub in_flight: f64,
    /// The same when the report arrives: switchers count what came and went since.
    pub in_flight_now: f64,
    /// Mean of the requests ended since the last report, if any did.
    pub execution_ms: Option<f64>,
    /// Their execution times by time: requests at work on average.
    pub busy: f64,
    /// The same with the wait: requests in the system on average.
    pub in_system: f64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    End { server: usize, arrived: Time, started: Time },
    Measure,
}

/// A pool and its clients.
pub struct Pool {
    pub servers: Vec<SimulatedServer>,
    /// Requests a second.
    pub rate: f64,
    pub weights: Vec<f64>,
    /// Not by weights: each to the one with the least in flight.
    pub least_in_flight: bool,
    /// Between two reports.
    pub period_ms: u64,
    /// How many periods a report is under way.
    pub delay: usize,
    pub random: Random,
    /// Sojourn times since they were last taken, ms.
    pub latencies: Vec<f64>,
    now: Time,
    events: BinaryHeap<Reverse<(Time, Event)>>,
    under_way: VecDeque<Vec<SimulatedReport>>,
}

impl Pool {
    /// At this part of the pool's capacity; all weights 1.
    pub fn new(servers: Vec<SimulatedServer>, load: f64, seed: u64) -> Self {
        let rate = load * servers.iter().map(SimulatedServer::capacity).sum::<f64>();
        let weights = vec![1.0; servers.len()];
        let mut pool = Self {
            servers,
            rate,
            weights,
            least_in_flight: false,
            period_ms: 50,
            delay: 0,
            random: Random(seed),
            latencies: Vec::new(),
            now: 0,
            events: BinaryHeap::new(),
            under_way: VecDeque::new(),
        };
        pool.at(0, Event::Arrival);
        pool.at(50 * MS, Event::Measure);
        pool
    }

    /// Runs for so long; `control` gets each server's report when it arrives, and may change the weights.
    pub fn run(&mut self, seconds: f64, mut control: impl FnMut(&[SimulatedReport], &mut [f64])) {
        let end = self.now + (seconds * 1e9) as Time;
        while let Some(Reverse((time, event))) = self.events.pop() {
            self.now = time;
            match event {
                Event::Arrival => self.arrive(),
                Event::End { server, arrived, started } => self.end(server, arrived, started),
                Event::Measure => {
                    self.at(time + self.period_ms * MS, Event::Measure);
                    if let Some(reports) = self.measure() {
                        control(&reports, &mut self.weights);
                    }
                    if time >= end {
                        return;
                    }
                }
            }
        }
    }

    /// The latency that this part of all requests since the last call stays below, ms.
    pub fn take_percentile(&mut self, part: f64) -> f64 {
        let mut all = std::mem::take(&mut self.latencies);
        all.sort_unstable_by(f64::total_cmp);
        all[((all.len() - 1) as f64 * part) as usize]
    }

    fn at(&mut self, time: Time, event: Event) {
        self.events.push(Reverse((time, event)));
    }

    fn arrive(&mut self) {
        let gap = self.random.exponential(1e9 / self.rate) as Time;
        self.at(self.now + gap, Event::Arrival);
        let chosen = if self.least_in_flight { self.emptiest() } else { self.drawn() };
        match self.servers[chosen].busy < self.servers[chosen].workers {
            true => self.start(chosen, self.now),
            false => self.servers[chosen].queue.push_back(self.now),
        }
    }

    fn drawn(&mut self) -> usize {
        let mut left = self.random.unit() * self.weights.iter().sum::<f64>();
        let chosen = self.weights.iter().position(|weight| {
            left -= weight;
            left <= 0.0
        });
        chosen.unwrap_or(self.weights.len() - 1)
    }

    /// Of equal ones, any.
    fn emptiest(&mut self) -> usize {
        let (count, first) = (self.servers.len(), (self.random.unit() * self.servers.len() as f64) as usize);
        let from_first = (0..count).map(|place| (first + place) % count);
        from_first.min_by_key(|index| self.servers[*index].in_flight()).unwrap_or(0)
    }

    fn start(&mut self, server: usize, arrived: Time) {
        self.servers[server].busy += 1;
        let execution = self.random.exponential(self.servers[server].mean_ms * MS as f64) as Time;
        self.at(self.now + execution, Event::End { server, arrived, started: self.now });
    }

    fn end(&mut self, number: usize, arrived: Time, started: Time) {
        self.latencies.push((self.now - arrived) as f64 / MS as f64);
        let server = &mut self.servers[number];
        server.busy -= 1;
        server.ended += 1;
        server.execution_ms += (self.now - started) as f64 / MS as f64;
        server.sojourn_ms += (self.now - arrived) as f64 / MS as f64;
        if let Some(arrived) = server.queue.pop_front() {
            self.start(number, arrived);
        }
    }

    fn measure(&mut self) -> Option<Vec<SimulatedReport>> {
        let period_ms = self.period_ms as f64;
        let reports = self.servers.iter_mut().map(|server| {
            let (ended, sum) = (std::mem::take(&mut server.ended), std::mem::take(&mut server.execution_ms));
            let sojourn_ms = std::mem::take(&mut server.sojourn_ms);
            SimulatedReport {
                in_flight: server.in_flight() as f64,
                in_flight_now: 0.0,
                execution_ms: (ended > 0).then(|| sum / ended as f64),
                busy: sum / period_ms,
                in_system: sojourn_ms / period_ms,
            }
        });
        self.under_way.push_back(reports.collect());
        let mut arrived = (self.under_way.len() > self.delay).then(|| self.under_way.pop_front()).flatten()?;
        for (report, server) in arrived.iter_mut().zip(&self.servers) {
            report.in_flight_now = server.in_flight() as f64;
        }
        Some(arrived)
    }
}
