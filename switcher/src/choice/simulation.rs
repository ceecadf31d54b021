//! A simulated pool for tests: Poisson arrivals, backends with a fixed number of workers and one queue each, reports that
//! come late, several switchers. Time is a number, so nothing waits, and a seed makes each run the same.

use super::{Load, Pool};
use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::num::NonZeroU32;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - (self.next() >> 11) as f64 / (1u64 << 53) as f64).ln()
    }
}

/// A backend: requests take exponentially distributed times.
#[derive(Clone, Copy)]
pub struct Server {
    pub workers: usize,
    pub mean_ms: f64,
    /// From this time of each `PERIOD_MS` on, requests take `SLOWED` times as long, for a quarter of it.
    pub slowed_from_ms: Option<f64>,
}

const SLOWED: f64 = 4.0;
const PERIOD_MS: f64 = 8000.0;
/// How often backends report, how old a report is when it arrives, and with what time constant times are smoothed.
const REPORT_MS: f64 = 50.0;
const DELAY_MS: f64 = 5.0;
const SMOOTHING_MS: f64 = 200.0;

impl Server {
    fn mean_ms(&self, now_ms: f64) -> f64 {
        let is_slow = self.slowed_from_ms.is_some_and(|from| (now_ms - from).rem_euclid(PERIOD_MS) < PERIOD_MS / 4.0);
        self.mean_ms * if is_slow { SLOWED } else { 1.0 }
    }

    /// Requests a millisecond, in the long run.
    fn capacity(&self) -> f64 {
        let share = if self.slowed_from_ms.is_some() { (3.0 + 1.0 / SLOWED) / 4.0 } else { 1.0 };
        share * self.workers as f64 / self.mean_ms
    }
}

/// What a server's report has for the time that a request takes.
#[derive(Clone, Copy, PartialEq)]
pub enum Times {
    /// That of a worker.
    Execution,
    /// With the wait before it.
    Sojourn,
}

/// What is known of a backend.
#[derive(Default)]
struct Backend {
    /// When each waiting request came, and by which switcher.
    queue: VecDeque<(f64, usize)>,
    busy: usize,
    /// By switcher.
    in_flight: Vec<u32>,
    /// Time and number of the requests since the last report.
    ended: (f64, f64),
    execution_ms: Option<f64>,
}

/// The pool as one switcher sees it when it chooses.
pub struct View<'a> {
    backends: &'a [Backend],
    simulation: &'a Simulation<'a>,
    /// Whose counts it sees, if not everybody's.
    only: Option<usize>,
}

impl Pool for View<'_> {
    fn count(&self) -> usize {
        self.backends.len()
    }

    fn weight(&self, _: usize) -> u32 {
        1
    }

    fn load(&self, index: usize) -> Load {
        let Backend { in_flight, execution_ms, .. } = &self.backends[index];
        Load {
            in_flight: self.only.map_or_else(|| in_flight.iter().sum(), |switcher| in_flight[switcher]),
            execution_us: execution_ms.and_then(|ms| NonZeroU32::new((ms * 1000.0) as u32)),
            workers: self.simulation.believed.and_then(|part| {
                NonZeroU32::new((self.simulation.servers[index].workers as f64 * part).round() as u32)
            }),
        }
    }
}

enum Event {
    Arrival,
    /// At a backend, of a request that came then, by that switcher, and was begun then.
    End(usize, f64, usize, f64),
    Sample,
    /// Mean times by backend.
    Report(Vec<Option<f64>>),
}

struct At(f64, Event);

impl Ord for At {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for At {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for At {}

/// One run.
pub struct Simulation<'a> {
    pub servers: &'a [Server],
    /// Arrivals, as a share of what the servers can do.
    pub load: f64,
    pub switchers: usize,
    /// Whether each sees all switchers' counts.
    pub shared: bool,
    pub times: Times,
    /// The number of workers that is believed, as a part of the true one; none if it is unknown.
    pub believed: Option<f64>,
    pub requests: usize,
    pub seed: u64,
}

/// Percentiles of the times that requests took, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Tail {
    pub p50: f64,
    pub p99: f64,
    pub p99_9: f64,
}

impl Simulation<'_> {
    /// How long requests take by this choice.
    pub fn tail(&self, mut choose: impl FnMut(&View<'_>, u64) -> usize) -> Tail {
        let mut run = Run::new(self);
        while run.took_ms.len() < self.requests {
            run.step(&mut choose);
        }
        let mut took_ms = run.took_ms.split_off(self.requests / 10); // without the start
        took_ms.sort_by(f64::total_cmp);
        let part = |part: f64| took_ms[(took_ms.len() as f64 * part) as usize];
        Tail { p50: part(0.5), p99: part(0.99), p99_9: part(0.999) }
    }
}

struct Run<'a> {
    simulation: &'a Simulation<'a>,
    random: Random,
    backends: Vec<Backend>,
    events: BinaryHeap<Reverse<At>>,
    took_ms: Vec<f64>,
}

impl<'a> Run<'a> {
    fn new(simulation: &'a Simulation<'a>) -> Self {
        let backend = |_| Backend { in_flight: vec![0; simulation.switchers], ..Backend::default() };
        Self {
            simulation,
            random: Random(simulation.seed),
            backends: simulation.servers.iter().map(backend).collect(),
            events: [At(0.0, Event::Arrival), At(0.0, Event::Sample)].map(Reverse).into(),
            took_ms: Vec::with_capacity(simulation.requests),
        }
    }

    fn after(&mut self, now_ms: f64, event: Event) {
        self.events.push(Reverse(At(now_ms, event)));
    }

    fn step(&mut self, choose: &mut impl FnMut(&View<'_>, u64) -> usize) {
        let Some(Reverse(At(now_ms, event))) = self.events.pop() else { return };
        match event {
            Event::Arrival => self.arrive(now_ms, choose),
            Event::End(at, came_ms, by, begun_ms) => self.end(now_ms, at, came_ms, by, begun_ms),
            Event::Sample => self.sample(now_ms),
            Event::Report(means) => self.report(means),
        }
    }

    fn arrive(&mut self, now_ms: f64, choose: &mut impl FnMut(&View<'_>, u64) -> usize) {
        let rate = self.simulation.servers.iter().map(Server::capacity).sum::<f64>() * self.simulation.load;
        let gap_ms = self.random.exponential(1.0 / rate);
        self.after(now_ms + gap_ms, Event::Arrival);
        let by = (self.random.next() % self.simulation.switchers as u64) as usize;
        let only = (!self.simulation.shared).then_some(by);
        let to = choose(&View { backends: &self.backends, simulation: self.simulation, only }, self.random.next());
        self.backends[to].in_flight[by] += 1;
        self.backends[to].queue.push_back((now_ms, by));
        self.work(now_ms, to);
    }

    /// An idle worker takes the next request.
    fn work(&mut self, now_ms: f64, at: usize) {
        let server = &self.simulation.servers[at];
        if self.backends[at].busy < server.workers
            && let Some((came_ms, by)) = self.backends[at].queue.pop_front()
        {
            self.backends[at].busy += 1;
            let takes_ms = self.random.exponential(server.mean_ms(now_ms));
            self.after(now_ms + takes_ms, Event::End(at, came_ms, by, now_ms));
        }
    }

    fn end(&mut self, now_ms: f64, at: usize, came_ms: f64, by: usize, begun_ms: f64) {
        let since_ms = if self.simulation.times == Times::Execution { begun_ms } else { came_ms };
        let backend = &mut self.backends[at];
        backend.in_flight[by] -= 1;
        backend.busy -= 1;
        backend.ended.0 += now_ms - since_ms;
        backend.ended.1 += 1.0;
        self.took_ms.push(now_ms - came_ms);
        self.work(now_ms, at);
    }

    fn sample(&mut self, now_ms: f64) {
        let mean = |(sum, count): (f64, f64)| (count > 0.0).then(|| sum / count);
        let means = self.backends.iter_mut().map(|backend| mean(std::mem::take(&mut backend.ended))).collect();
        self.after(now_ms + DELAY_MS, Event::Report(means));
        self.after(now_ms + REPORT_MS, Event::Sample);
    }

    fn report(&mut self, means: Vec<Option<f64>>) {
        let share = 1.0 - (-REPORT_MS / SMOOTHING_MS).exp();
        for (backend, mean) in self.backends.iter_mut().zip(means) {
            if let Some(mean) = mean {
                let before = backend.execution_ms.unwrap_or(mean);
                backend.execution_ms = Some(before + (mean - before) * share);
            }
        }
    }
}
