//! The choices on small pools, and their tails on simulated ones: orderings with wide margins, not numbers.

use super::simulation::{Server, Simulation, Tail, Times, View};
use super::*;
use proptest::prelude::any;

/// By backend: weight, in flight, execution time, workers; 0 if it doesn't say.
struct Fixed(Vec<(u32, u32, u32, u32)>);

impl Pool for Fixed {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn weight(&self, index: usize) -> u32 {
        self.0[index].0
    }

    fn load(&self, index: usize) -> Load {
        let (_, in_flight, execution_us, workers) = self.0[index];
        Load { in_flight, execution_us: NonZeroU32::new(execution_us), workers: NonZeroU32::new(workers) }
    }
}

type Choose = fn(&Fixed, u64) -> Option<usize>;
const ALL: [Choose; 3] = [lightest, least_connections, latency];

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
    let pool = Fixed(vec![(0, 0, 1, 9), (1, 90, 9000, 1), (0, 0, 0, 0), (1, 80, 0, 0)]);
    for choose in ALL {
        assert_eq!([chosen(&pool, choose)[0], chosen(&pool, choose)[2]], [0, 0]);
        assert_eq!(choose(&Fixed(vec![(0, 0, 0, 0); 3]), 7), None);
        assert_eq!(choose(&Fixed(Vec::new()), 7), None);
        assert_eq!(choose(&Fixed(vec![(0, 0, 0, 0), (1, 0, 0, 0)]), u64::MAX), Some(1));
    }
}

#[test]
fn equal_ones_are_chosen_equally() {
    for choose in ALL {
        let counts = chosen(&Fixed(vec![(1, 5, 700, 4); 6]), choose);
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}

#[test]
fn lightest_is_the_lighter_of_two_drawn_by_weight() {
    let counts = chosen(&Fixed(vec![(1, 9, 0, 0), (1, 0, 0, 0), (1, 5, 0, 0)]), lightest);
    assert_eq!(counts[0], 0, "of any two, another is lighter");
    assert!(counts[1] > counts[2] && counts[2] > 1000, "{counts:?}");
    let counts = chosen(&Fixed(vec![(1, 0, 0, 0), (9, 0, 0, 0), (1, 0, 0, 0)]), lightest);
    assert!(counts[1] > 5000, "{counts:?}");
}

#[test]
fn least_connections_is_the_least_for_the_weight() {
    let chosen = |pool| chosen(&Fixed(pool), least_connections);
    assert_eq!(chosen(vec![(1, 3, 0, 0), (1, 2, 0, 0), (1, 4, 0, 0)]), [0, 6000, 0]);
    assert_eq!(chosen(vec![(1, 3, 0, 0), (4, 9, 0, 0)]), [0, 6000]);
    assert_eq!(chosen(vec![(1, 0, 0, 0), (4, 9, 0, 0)]), [6000, 0]);
}

#[test]
fn shortest_wait_goes_where_a_worker_is_idle_and_then_where_one_is_free_soonest() {
    let chosen = |pool| chosen(&Fixed(pool), latency);
    assert_eq!(chosen(vec![(1, 1, 20, 4), (1, 0, 80, 4)]), [6000, 0], "both idle: the quicker");
    assert_eq!(chosen(vec![(1, 4, 20, 4), (1, 3, 80, 4)]), [0, 6000], "a slow idle worker before a quick busy one");
    assert_eq!(chosen(vec![(1, 6, 20, 4), (1, 4, 80, 4)]), [6000, 0], "three of 20 end before one of 80");
    assert_eq!(chosen(vec![(1, 9, 20, 8), (1, 4, 20, 2)]), [6000, 0], "eight workers end what waits sooner than two");
    assert_eq!(chosen(vec![(1, 7, 20, 4), (4, 9, 20, 4)]), [0, 6000], "four times the weight");
}

#[test]
fn what_one_does_not_say_is_the_mean_of_the_others() {
    let chosen = |pool| chosen(&Fixed(pool), latency);
    assert_eq!(chosen(vec![(1, 4, 10, 4), (1, 4, 30, 4), (1, 4, 0, 4)]), [6000, 0, 0]);
    assert_eq!(chosen(vec![(1, 4, 30, 4), (1, 4, 0, 4), (1, 4, 90, 4)]), [6000, 0, 0]);
    assert_eq!(chosen(vec![(1, 6, 20, 2), (1, 6, 20, 0), (1, 6, 20, 6)]), [0, 0, 6000]);
    assert_eq!(chosen(vec![(1, 6, 20, 2), (1, 6, 20, 0), (1, 6, 20, 3)]), [0, 0, 6000]);
    assert_eq!(chosen(vec![(1, 1, 0, 0), (1, 0, 0, 0)]), [0, 6000], "without a report, the least in flight");
    assert_eq!(chosen(vec![(1, 5, 0, 2), (1, 6, 0, 6)]), [0, 6000], "workers alone: the shortest queue for them");
    assert_eq!(chosen(vec![(1, 4, 40, 0), (1, 6, 10, 0)]), [6000, 0], "unknown workers: a time moves an eighth");
}

fn servers(of: impl Fn(usize) -> Server) -> Vec<Server> {
    (0..8).map(of).collect()
}

fn calm(workers: usize, mean_ms: f64) -> Server {
    Server { workers, mean_ms, slowed_from_ms: None }
}

/// Half of them four times as fast as the others.
fn unequal() -> Vec<Server> {
    servers(|index| calm(4, if index < 4 { 20.0 } else { 80.0 }))
}

/// Half of them with four times the workers of the others.
fn unequally_staffed() -> Vec<Server> {
    servers(|index| calm(if index < 4 { 8 } else { 2 }, 40.0))
}

/// At any time two of them slowed to a quarter, for 2 s.
fn disturbed() -> Vec<Server> {
    servers(|index| Server { slowed_from_ms: Some(index as f64 * 1000.0), ..calm(4, 32.0) })
}

fn simulation(servers: &[Server], load: f64) -> Simulation<'_> {
    Simulation {
        servers,
        load,
        switchers: 3,
        shared: true,
        times: Times::Execution,
        believed: None,
        requests: 60_000,
        seed: 7,
    }
}

/// With the fewest connections, and with the shortest wait.
fn least_and_wait(simulation: &Simulation<'_>) -> [Tail; 2] {
    [
        simulation.tail(|pool, hash| least_connections(pool, hash).expect("one")),
        simulation.tail(|pool, hash| latency(pool, hash).expect("one")),
    ]
}

fn two_choices(simulation: &Simulation<'_>) -> Tail {
    simulation.tail(|pool, hash| lightest(pool, hash).expect("one"))
}

/// By chance, and by turns.
fn ignorant(simulation: &Simulation<'_>) -> [Tail; 2] {
    let mut turn = 0;
    let round_robin = |pool: &View<'_>, _| {
        turn += 1;
        turn % pool.count()
    };
    [simulation.tail(|pool, hash| below(pool.count() as u64, hash as u32) as usize), simulation.tail(round_robin)]
}

/// Whether a tail is no worse than another, by these parts of its median, 99th and 99.9th percentile.
fn within(tail: Tail, parts: [f64; 3], other: Tail) -> bool {
    tail.p50 <= parts[0] * other.p50 && tail.p99 <= parts[1] * other.p99 && tail.p99_9 <= parts[2] * other.p99_9
}

#[test]
fn in_an_even_pool_each_beats_chance_and_turns() {
    let even = servers(|_| calm(4, 40.0));
    let simulation = Simulation { believed: Some(1.0), ..simulation(&even, 0.9) };
    let [random, turns] = ignorant(&simulation);
    let [least, wait] = least_and_wait(&simulation);
    for tail in [two_choices(&simulation), least, wait] {
        assert!(tail.p99 < 0.6 * random.p99 && tail.p99 < 0.8 * turns.p99, "{tail:?}: {random:?}, {turns:?}");
    }
}

#[test]
fn where_load_counts_chance_and_turns_are_far_behind() {
    for servers in [unequal(), disturbed()] {
        let simulation = simulation(&servers, 0.9);
        let [random, turns] = ignorant(&simulation);
        let (lightest, [least, _]) = (two_choices(&simulation), least_and_wait(&simulation));
        assert!(least.p99 < lightest.p99 && 2.5 * lightest.p99 < turns.p99.min(random.p99), "{least:?} {lightest:?}");
    }
}

#[test]
fn with_workers_known_the_shortest_wait_beats_the_least_connections_everywhere() {
    for servers in [unequal(), disturbed(), unequally_staffed()] {
        for load in [0.7, 0.9] {
            let simulation = Simulation { believed: Some(1.0), ..simulation(&servers, load) };
            let [least, wait] = least_and_wait(&simulation);
            assert!(within(wait, [1.02, 0.9, 0.98], least), "{load}: {wait:?}, {least:?}");
        }
    }
}

/// As far off as what is learnt may be, and further: it costs the median something, and the tail nothing.
#[test]
fn a_number_of_workers_that_is_wrong_by_a_quarter_still_shortens_the_tail() {
    for part in [0.75, 1.25] {
        for servers in [unequal(), disturbed()] {
            let simulation = Simulation { believed: Some(part), ..simulation(&servers, 0.9) };
            let [least, wait] = least_and_wait(&simulation);
            assert!(within(wait, [1.25, 0.9, 1.0], least), "{part}: {wait:?}, {least:?}");
        }
    }
}

#[test]
fn without_workers_the_shortest_wait_is_no_worse_than_the_least_connections() {
    for servers in [unequal(), disturbed(), unequally_staffed()] {
        for (times, load) in [(Times::Execution, 0.7), (Times::Execution, 0.9), (Times::Sojourn, 0.9)] {
            let simulation = Simulation { times, ..simulation(&servers, load) };
            let [least, wait] = least_and_wait(&simulation);
            assert!(within(wait, [1.03, 1.0, 1.03], least), "{load}: {wait:?}, {least:?}");
        }
    }
}

#[test]
fn switchers_that_share_their_counts_balance_better_than_each_for_itself() {
    let servers = servers(|_| calm(4, 40.0));
    let p99_ms = |shared| {
        let simulation = Simulation { switchers: 16, shared, seed: 3, ..simulation(&servers, 0.9) };
        least_and_wait(&simulation)[0].p99
    };
    assert!(p99_ms(true) < 0.9 * p99_ms(false), "{} {}", p99_ms(true), p99_ms(false));
}

/// The largest configured weight times the largest factor.
const MOST_WEIGHT: u32 = 256 * 65_535;

proptest::proptest! {
    /// Whatever the loads are: it is one that takes connections, and none costs less.
    #[test]
    fn what_is_chosen_is_the_least(
        pool in proptest::collection::vec((0u32..4, 0u32..9, 1u32..9, 1u32..4), 0..12), hash in proptest::num::u64::ANY,
    ) {
        let takers: Vec<_> = pool.iter().copied().filter(|(weight, ..)| *weight > 0).collect();
        // In sixths, or 36ths, which divide by each weight and number of workers without a rest.
        let count = |(weight, in_flight, ..): (u32, u32, u32, u32)| 6 * (in_flight + 1) / weight;
        let usual = takers.iter().map(|(_, _, time, _)| time).sum::<u32>().checked_div(takers.len() as u32).unwrap_or(1);
        let wait = |(weight, in_flight, time, workers): (u32, u32, u32, u32)| {
            let waiting = (in_flight + 1).saturating_sub(workers);
            36 * (7 * time + usual) * (16 * waiting + in_flight + 1 - waiting) / (weight * workers)
        };
        let cost_of = |index: Option<usize>, cost: &dyn Fn((u32, u32, u32, u32)) -> u32| index.map(|at| cost(pool[at]));
        let least = |cost: &dyn Fn((u32, u32, u32, u32)) -> u32| takers.iter().map(|one| cost(*one)).min();
        let fixed = Fixed(pool.clone());
        proptest::prop_assert_eq!(cost_of(least_connections(&fixed, hash), &count), least(&count));
        proptest::prop_assert_eq!(cost_of(latency(&fixed, hash), &wait), least(&wait));
        proptest::prop_assert_eq!(lightest(&fixed, hash).map(|at| pool[at].0 > 0), takers.first().map(|_| true));
    }

    /// Numbers up to their limits overflow nothing.
    #[test]
    fn any_numbers_choose_one_that_takes_connections(
        pool in proptest::collection::vec((0..=MOST_WEIGHT, any::<u32>(), any::<u32>(), any::<u32>()), 1..6), hash in proptest::num::u64::ANY,
    ) {
        let fixed = Fixed(pool.clone());
        for choose in ALL {
            proptest::prop_assert_eq!(choose(&fixed, hash).is_some(), pool.iter().any(|(weight, ..)| *weight > 0));
        }
    }
}
