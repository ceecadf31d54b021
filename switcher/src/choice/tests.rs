//! The choices on small pools, and their tails on simulated ones: orderings with wide margins, not numbers.

use super::simulation::{Server, Simulation, View};
use super::*;

/// By backend: weight, in flight, execution time.
struct Fixed(Vec<(u32, u32, Option<u32>)>);

impl Pool for Fixed {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn weight(&self, index: usize) -> u32 {
        self.0[index].0
    }

    fn load(&self, index: usize) -> Load {
        Load { in_flight: self.0[index].1, execution_us: self.0[index].2 }
    }
}

type Choose = fn(&Fixed, u64) -> Option<usize>;
const ALL: [Choose; 3] = [lightest, least_connections, shortest_wait];

/// How often each backend is chosen, by hashes spread evenly.
fn chosen(pool: &Fixed, choose: Choose) -> Vec<usize> {
    let mut counts = vec![0; pool.count()];
    for round in 0..6000u64 {
        counts[choose(pool, round.wrapping_mul(0x9e37_79b9_7f4a_7c15)).expect("one that takes it")] += 1;
    }
    counts
}

#[test]
fn one_that_takes_no_connections_is_never_chosen() {
    let pool = Fixed(vec![(0, 0, Some(1)), (1, 90, Some(9000)), (0, 0, None), (1, 80, None)]);
    for choose in ALL {
        assert_eq!([chosen(&pool, choose)[0], chosen(&pool, choose)[2]], [0, 0]);
        assert_eq!(choose(&Fixed(vec![(0, 0, None); 3]), 7), None);
        assert_eq!(choose(&Fixed(Vec::new()), 7), None);
        assert_eq!(choose(&Fixed(vec![(0, 0, None), (1, 0, None)]), u64::MAX), Some(1));
    }
}

#[test]
fn equal_ones_are_chosen_equally() {
    for choose in ALL {
        let counts = chosen(&Fixed(vec![(1, 5, Some(700)); 6]), choose);
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}

#[test]
fn lightest_is_the_lighter_of_two_drawn_by_weight() {
    let counts = chosen(&Fixed(vec![(1, 9, None), (1, 0, None), (1, 5, None)]), lightest);
    assert_eq!(counts[0], 0, "of any two, another is lighter");
    assert!(counts[1] > counts[2] && counts[2] > 1000, "{counts:?}");
    let counts = chosen(&Fixed(vec![(1, 0, None), (9, 0, None), (1, 0, None)]), lightest);
    assert!(counts[1] > 5000, "{counts:?}");
}

#[test]
fn least_connections_is_the_least_for_the_weight() {
    let chosen = |pool| chosen(&Fixed(pool), least_connections);
    assert_eq!(chosen(vec![(1, 3, None), (1, 2, None), (1, 4, None)]), [0, 6000, 0]);
    assert_eq!(chosen(vec![(1, 3, None), (4, 9, None)]), [0, 6000]);
    assert_eq!(chosen(vec![(1, 0, None), (4, 9, None)]), [6000, 0]);
}

#[test]
fn shortest_wait_weighs_work_by_its_time() {
    let chosen = |pool| chosen(&Fixed(pool), shortest_wait);
    assert_eq!(chosen(vec![(1, 4, Some(10)), (1, 0, Some(60))]), [6000, 0]);
    assert_eq!(chosen(vec![(1, 4, Some(10)), (1, 0, Some(40))]), [0, 6000]);
    let average = vec![(1, 2, Some(10)), (1, 0, Some(30)), (1, 0, None)];
    assert_eq!(chosen(average), [0, 0, 6000], "one that doesn't say counts as an average one");
    assert_eq!(chosen(vec![(1, 1, None), (1, 0, None)]), [0, 6000], "without a report, the least in flight");
}

fn servers(of: impl Fn(usize) -> Server) -> Vec<Server> {
    (0..8).map(of).collect()
}

fn calm(mean_ms: f64) -> Server {
    Server { workers: 4, mean_ms, disturbed_ms: None }
}

/// Half of them four times as fast as the others.
fn unequal() -> Vec<Server> {
    servers(|index| calm(if index < 4 { 20.0 } else { 80.0 }))
}

/// Three of them slowed by turns.
fn disturbed() -> Vec<Server> {
    let turn = |index| (4000.0, index as f64 * 1000.0);
    servers(|index| Server { disturbed_ms: (index < 3).then(|| turn(index)), ..calm(40.0) })
}

/// 99th percentiles of random, round robin, lightest, least-connections, latency.
fn tails(servers: &[Server], load: f64) -> [f64; 5] {
    let simulation = Simulation { servers, load, switchers: 3, shared: true, requests: 40_000, seed: 7 };
    let mut turn = 0;
    let round_robin = |pool: &View<'_>, _| {
        turn += 1;
        turn % pool.count()
    };
    [
        simulation.p99_ms(|pool, hash| below(pool.count() as u64, hash as u32) as usize),
        simulation.p99_ms(round_robin),
        simulation.p99_ms(|pool, hash| lightest(pool, hash).expect("one")),
        simulation.p99_ms(|pool, hash| least_connections(pool, hash).expect("one")),
        simulation.p99_ms(|pool, hash| shortest_wait(pool, hash).expect("one")),
    ]
}

#[test]
fn in_an_even_pool_each_beats_chance_and_turns() {
    let [random, turns, lightest, least, wait] = tails(&servers(|_| calm(40.0)), 0.9);
    for tail in [lightest, least, wait] {
        assert!(tail < 0.6 * random && tail < 0.8 * turns, "{tail}: {random}, {turns}");
    }
}

#[test]
fn in_an_unequal_pool_the_shortest_wait_beats_the_least_connections() {
    for load in [0.7, 0.9] {
        let [random, turns, lightest, least, wait] = tails(&unequal(), load);
        assert!(wait < 0.9 * least && least < 0.9 * lightest && 3.0 * lightest < turns.min(random), "{load}: {wait}");
    }
}

#[test]
fn in_a_disturbed_pool_the_shortest_wait_beats_the_least_connections() {
    for load in [0.7, 0.9] {
        let [random, turns, lightest, least, wait] = tails(&disturbed(), load);
        assert!(wait < 0.95 * least && least < lightest && 3.0 * wait < turns.min(random), "{load}: {wait}, {least}");
    }
}

#[test]
fn switchers_that_share_their_counts_balance_better_than_each_for_itself() {
    let servers = servers(|_| calm(40.0));
    let p99_ms = |shared| {
        let simulation = Simulation { servers: &servers, load: 0.9, switchers: 16, shared, requests: 40_000, seed: 3 };
        simulation.p99_ms(|pool, hash| least_connections(pool, hash).expect("one"))
    };
    assert!(p99_ms(true) < 0.9 * p99_ms(false), "{} {}", p99_ms(true), p99_ms(false));
}

proptest::proptest! {
    /// Whatever the loads are: it is one that takes connections, and none has less to do for its weight.
    #[test]
    fn what_is_chosen_is_the_least(
        pool in proptest::collection::vec((0u32..4, 0u32..9, proptest::option::of(1u32..9)), 0..12),
        hash in proptest::num::u64::ANY,
    ) {
        let takers: Vec<_> = pool.iter().copied().filter(|(weight, ..)| *weight > 0).collect();
        let known: Vec<u32> = takers.iter().filter_map(|(.., time)| *time).collect();
        let average = known.iter().sum::<u32>().checked_div(known.len() as u32).unwrap_or(1);
        // In sixths, which divide by each weight without a rest.
        let count = |(weight, in_flight, _)| 6 * (in_flight + 1) / weight;
        let wait = |one: (u32, u32, Option<u32>)| count(one) * one.2.unwrap_or(average);
        let cost_of = |index: Option<usize>, cost: &dyn Fn((u32, u32, Option<u32>)) -> u32| index.map(|at| cost(pool[at]));
        let least = |cost: &dyn Fn((u32, u32, Option<u32>)) -> u32| takers.iter().map(|one| cost(*one)).min();
        let fixed = Fixed(pool.clone());
        proptest::prop_assert_eq!(cost_of(least_connections(&fixed, hash), &count), least(&count));
        proptest::prop_assert_eq!(cost_of(shortest_wait(&fixed, hash), &wait), least(&wait));
        proptest::prop_assert_eq!(lightest(&fixed, hash).map(|at| pool[at].0 > 0), takers.first().map(|_| true));
    }
}
