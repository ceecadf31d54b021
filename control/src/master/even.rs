//! `even`: feedback that equalises load. A backend above its pool's median load gets less, one below gets more, until all
//! loads are equal.
//!
//! A PI controller. The proportional part responds at once and keeps no state: it diverts requests from a queue that has
//! just formed, so a pool follows a disturbance within a few steps. The integral part slowly learns each backend's
//! capacity, because loads respond late (reports in transit, queues that drain slowly) and steeply (the load of a nearly
//! full server doubles with a few percent more traffic). Both are bounded for any input, and the learnt factor changes no
//! faster than the slew limit.

/// Bounds of the factor: a backend with almost no traffic still shows when it recovers.
const LEAST: f64 = 0.02;
const GREATEST: f64 = 20.0;
/// Bounds of the learnt factor, so that it is unlearnt within seconds after a disturbance.
const LEARNT: (f64, f64) = (0.1, 10.0);
/// Exponent of the proportional part, whose base is from 0 to 2. Simulated with a disturbed pool at 90 % load, the p99 is
/// 1.6 s with exponent 1, 0.61 s with 2, 0.46 s with 3; higher exponents lengthen it again in a calm pool.
const PROPORTIONAL_POWER: i32 = 3;
/// Gain of the integral part relative to the slew limit: the highest in simulation without oscillation at 90 % load.
const LEARNING: f64 = 0.5;

/// A pool member with a reported load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loaded {
    /// The configured weight.
    pub weight: f64,
    /// The learnt factor: the weight's multiplier in balance.
    pub learnt: f64,
    /// The current factor of its weight.
    pub factor: f64,
    /// Its load, in any unit common to the pool; higher is worse.
    pub load: f64,
}

/// Runs one step of `elapsed_s` seconds; `slew_per_s` is twice the largest relative change of a learnt factor per second.
/// Returns the median load.
pub fn adjust(pool: &mut [Loaded], elapsed_s: f64, slew_per_s: f64) -> f64 {
    let middle = median(pool.iter().map(|member| member.load).collect());
    for member in pool.iter_mut() {
        let error = relative_difference(middle, member.load);
        // Squared, so that noise near balance is not learnt.
        let rate = LEARNING * slew_per_s * error * error.abs();
        member.learnt = (member.learnt * (1.0 + rate * elapsed_s)).clamp(LEARNT.0, LEARNT.1);
    }
    normalise(pool);
    for member in pool.iter_mut() {
        let proportional = (1.0 + relative_difference(middle, member.load)).powi(PROPORTIONAL_POWER);
        member.factor = (member.learnt * proportional).clamp(LEAST, GREATEST);
    }
    middle
}

/// Moves `factor` towards `wanted` by at most this fraction of itself.
pub fn step_towards(factor: f64, wanted: f64, most: f64) -> f64 {
    let (low, high) = (factor * (1.0 - most).max(0.0), factor * (1.0 + most));
    wanted.clamp(low, high).clamp(LEAST, GREATEST)
}

/// From -1 (`load` far above `middle`) over 0 (equal) to 1 (far below).
fn relative_difference(middle: f64, load: f64) -> f64 {
    let sum = middle + load;
    if sum > 0.0 { (middle - load) / sum } else { 0.0 }
}

/// The median, not the mean: a single agent's report hardly changes the reference for the others.
fn median(mut loads: Vec<f64>) -> f64 {
    loads.sort_unstable_by(f64::total_cmp);
    let half = loads.len() / 2;
    match loads.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => loads[half],
        _ => (loads[half - 1] + loads[half]) / 2.0,
    }
}

/// Normalises the weighted mean to 1: what is learnt is a share, and a backend without reports keeps its own.
fn normalise(pool: &mut [Loaded]) {
    let weights: f64 = pool.iter().map(|member| member.weight).sum();
    let weighted: f64 = pool.iter().map(|member| member.weight * member.learnt).sum();
    if weighted > 0.0 {
        pool.iter_mut().for_each(|member| member.learnt *= weights / weighted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::simulation::{Pool, SimulatedReport, SimulatedServer};

    /// As the resource manager smooths, with reports each 50 ms.
    struct Loop {
        pool: Vec<Loaded>,
        execution_ms: Vec<f64>,
        lowest_and_highest: Vec<(f64, f64)>,
    }

    const STEP_S: f64 = 0.05;

    impl Loop {
        fn new(servers: usize) -> Self {
            let member = Loaded { weight: 1.0, learnt: 1.0, factor: 1.0, load: 0.0 };
            let lowest_and_highest = vec![(f64::MAX, 0.0); servers];
            Self { pool: vec![member; servers], execution_ms: vec![0.0; servers], lowest_and_highest }
        }

        fn step(&mut self, reports: &[SimulatedReport], weights: &mut [f64]) {
            let share = 1.0 - (-STEP_S / 0.2f64).exp();
            for ((report, smooth_ms), member) in reports.iter().zip(&mut self.execution_ms).zip(&mut self.pool) {
                if let Some(execution_ms) = report.execution_ms {
                    *smooth_ms += if *smooth_ms == 0.0 { execution_ms } else { share * (execution_ms - *smooth_ms) };
                }
                member.load = (report.in_flight_now + 1.0) * *smooth_ms;
            }
            adjust(&mut self.pool, STEP_S, 2.0);
            for ((member, weight), seen) in self.pool.iter().zip(weights).zip(&mut self.lowest_and_highest) {
                *weight = member.factor;
                *seen = (seen.0.min(member.learnt), seen.1.max(member.learnt));
            }
        }

        /// What is learnt stays within these bounds from now on.
        fn swing(&mut self, pool: &mut Pool, seconds: f64) -> Vec<(f64, f64)> {
            self.lowest_and_highest.fill((f64::MAX, 0.0));
            pool.run(seconds, |reports, weights| self.step(reports, weights));
            self.lowest_and_highest.clone()
        }
    }

    fn unequal() -> Vec<SimulatedServer> {
        (0..8).map(|n| SimulatedServer::new(4, if n < 4 { 80.0 } else { 20.0 })).collect()
    }

    fn equal() -> Vec<SimulatedServer> {
        (0..8).map(|_| SimulatedServer::new(4, 20.0)).collect()
    }

    fn percentile(servers: Vec<SimulatedServer>, load: f64, with_feedback: bool) -> f64 {
        let (mut pool, mut control) = (Pool::new(servers, load, 7), Loop::new(8));
        for _ in 0..2 {
            pool.latencies.clear();
            pool.run(10.0, |reports, weights| {
                if with_feedback {
                    control.step(reports, weights)
                }
            });
        }
        pool.take_percentile(0.99)
    }

    #[test]
    fn an_unequal_pool_converges_to_what_its_servers_can_do() {
        let (mut pool, mut control) = (Pool::new(unequal(), 0.7, 1), Loop::new(8));
        pool.run(20.0, |reports, weights| control.step(reports, weights));
        let ratio = control.pool[7].learnt / control.pool[0].learnt;
        assert!((3.0..20.0).contains(&ratio), "{ratio}");
        let (with, without) = (percentile(unequal(), 0.7, true), percentile(unequal(), 0.7, false));
        assert!(with * 3.0 < without, "{with} ms, without feedback {without}");
    }

    #[test]
    fn a_nearly_full_pool_is_served_in_time() {
        let (with, without) = (percentile(unequal(), 0.9, true), percentile(unequal(), 0.9, false));
        assert!(with * 5.0 < without, "{with} ms, without feedback {without}");
    }

    #[test]
    fn an_equal_pool_is_left_alone_and_noise_teaches_nothing() {
        let (mut pool, mut control) = (Pool::new(equal(), 0.7, 2), Loop::new(8));
        for (low, high) in control.swing(&mut pool, 30.0) {
            assert!(low > 0.7 && high < 1.4, "{low} to {high}");
        }
        assert!(percentile(equal(), 0.9, true) < 1.2 * percentile(equal(), 0.9, false));
    }

    #[test]
    fn late_reports_make_no_oscillation() {
        for delay in [1, 4, 10] {
            let (mut pool, mut control) = (Pool::new(unequal(), 0.7, 3), Loop::new(8));
            pool.delay = delay;
            pool.run(15.0, |reports, weights| control.step(reports, weights));
            for (low, high) in control.swing(&mut pool, 15.0) {
                assert!(high < 2.5 * low, "delay {delay}: {low} to {high}");
            }
        }
    }

    #[test]
    fn more_than_the_pool_can_do_ends_in_balance_all_the_same() {
        let (mut pool, mut control) = (Pool::new(equal(), 1.3, 4), Loop::new(8));
        for (low, high) in control.swing(&mut pool, 20.0) {
            assert!(low > 0.5 && high < 2.0, "{low} to {high}");
        }
    }

    #[test]
    fn one_slow_server_gets_little_and_comes_back() {
        let (mut pool, mut control) = (Pool::new(equal(), 0.6, 5), Loop::new(8));
        pool.servers[0].mean_ms = 200.0;
        pool.run(10.0, |reports, weights| control.step(reports, weights));
        let slow = control.pool[0].factor;
        pool.servers[0].mean_ms = 20.0;
        pool.run(10.0, |reports, weights| control.step(reports, weights));
        let (mut sum, mut steps) = (0.0, 0.0);
        pool.run(5.0, |reports, weights| {
            control.step(reports, weights);
            (sum, steps) = (sum + weights[0], steps + 1.0);
        });
        let back = sum / steps;
        assert!(slow < 0.35 && back > 0.6, "slow {slow}, later {back} on average");
    }

    /// 99th percentile while the pool at `slow(turn)` takes `times` as long, for a second each turn.
    fn disturbed(slow: fn(usize, usize) -> bool, times: f64, rate: f64, least_in_flight: bool) -> f64 {
        let servers = || (0..8).map(|_| SimulatedServer::new(4, 32.0)).collect();
        let (mut pool, mut control) = (Pool::new(servers(), rate / 1000.0, 7), Loop::new(8));
        pool.least_in_flight = least_in_flight;
        for turn in 0..96 {
            for (number, server) in pool.servers.iter_mut().enumerate() {
                server.mean_ms = if slow(turn, number) { 32.0 * times } else { 32.0 };
            }
            if turn == 16 {
                pool.latencies.clear();
            }
            pool.run(1.0, |reports, weights| control.step(reports, weights));
        }
        pool.take_percentile(0.99)
    }

    #[test]
    fn a_square_wave_of_seconds_is_followed_within_twice_the_least_in_flight() {
        // Half the pool to a half for 4 s, then the other; two of eight to a quarter for 2 s each, overlapping.
        let wave = |turn: usize, number: usize| turn / 4 % 2 == number % 2;
        let turns = |turn: usize, number: usize| (turn + 8 - number) % 8 < 2;
        for load in [0.7, 0.9] {
            for (slow, times, capacity) in [(wave as fn(usize, usize) -> bool, 2.0, 750.0), (turns, 4.0, 812.5)] {
                let tail = |least| disturbed(slow, times, load * capacity, least);
                let (even, least) = (tail(false), tail(true));
                assert!(even < 2.0 * least, "{load}, times {times}: {even} ms, the least in flight {least} ms");
            }
        }
    }

    #[test]
    fn a_liar_moves_only_itself_and_is_believed_no_faster_than_the_limit() {
        for lie in [0.0, f64::MAX / 4.0] {
            let member = Loaded { weight: 1.0, learnt: 1.0, factor: 1.0, load: 100.0 };
            let mut pool = [member; 5];
            pool[0].load = lie;
            for _ in 0..10 {
                let before = pool;
                adjust(&mut pool, STEP_S, 0.5);
                for (before, after) in before.iter().zip(&pool) {
                    let change = (after.learnt / before.learnt - 1.0).abs();
                    assert!(change <= 0.5 * STEP_S + 1e-9, "{change}");
                    assert!(after.factor <= 8.0 * after.learnt && after.factor >= LEAST, "{after:?}");
                }
                assert!(pool[2..].iter().all(|other| other.factor == pool[1].factor));
            }
            assert!((pool[1].factor - 1.0).abs() < 0.1, "{}", pool[1].factor);
        }
    }

    #[test]
    fn nobody_and_nothing_are_pools_too() {
        adjust(&mut [], STEP_S, 1.0);
        let mut idle = [Loaded { weight: 0.0, learnt: 1.0, factor: 1.0, load: 0.0 }; 2];
        adjust(&mut idle, STEP_S, 1.0);
        assert_eq!(idle[0].factor, 1.0);
    }
}
