//! Control, publisher and filters together, by random operations: what must hold after each of them, whatever dies when.
//!
//! Each seed is a story of named operations. A failure prints its seed and the story; `SHUNT_SEED=N` tells that one alone.

mod checks;
mod filters;
mod random;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use shunt_protocol::admin::{Command, Reply};
use shunt_publish::retirement::ConnectionCounts;
use shunt_publish::testing::ServiceOf;
use shunt_report::agent_check::AgentAnswer;
use shunt_routing::event::{Route, RouteKey};
use shunt_routing::state::Changes;
use shunt_shmlayout::flip;

use super::super::outside::{Count, Event, Outputs, Ticket};
use super::super::testing::{World, checked, select};
use crate::health::{BackendKey, Health};
use crate::resource_manager::agent_check::Outcome;
use filters::Switcher;
use random::Random;

/// Seeds in a run, and operations of each.
const SEEDS: u64 = 200;
const OPERATIONS: usize = 60;

/// The configurations that reloads take turns with. Backend 1 is behind two services in some.
const CONFIGURATIONS: &[&[ServiceOf<'static>]] = &[
    &[(1, "nat", &[(1, 1), (2, 1), (3, 2)]), (2, "nat", &[(1, 1), (4, 1)])],
    &[(1, "nat", &[(2, 1), (3, 2)]), (2, "nat", &[(4, 1), (5, 1)])],
    &[(1, "nat", &[(1, 1), (2, 1)])],
    &[(2, "nat", &[(4, 1), (1, 1)]), (3, "nat", &[(6, 1), (7, 3)])],
];

/// Lines of the first service.
const LINES: &str = "agent_check = { port = 9777, interval_ms = 100 }\ndrain_timeout_s = 1\n";

/// Something that happens. Numbers are those of names: service sN, backend bN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    BackendDies {
        service: u8,
        backend: u8,
    },
    BackendReturns {
        service: u8,
        backend: u8,
    },
    Drain {
        backend: u8,
    },
    Enable {
        backend: u8,
    },
    Reload {
        configuration: usize,
    },
    ReloadOfNonsense,
    Report {
        service: u8,
        backend: u8,
        says: &'static str,
    },
    RouteGone,
    RouteReturns,
    CountEnds,
    ControlKilled,
    /// Between the first and the last store to the idle buffer.
    ControlKilledWhileFilling,
    SwitcherKilled {
        number: usize,
    },
    /// Its process is stopped, and goes on reading what it reads.
    SwitcherStops {
        number: usize,
    },
    SwitcherGoesOn {
        number: usize,
    },
    Packet {
        number: usize,
        service: u8,
        client: u8,
    },
    TimePasses {
        ms: u64,
    },
}

/// What is known without control: what it must have come to.
#[derive(Clone, Default)]
struct Model {
    configuration: usize,
    down: BTreeSet<(u8, u8)>,
    drained: BTreeSet<u8>,
}

impl Model {
    fn services(&self) -> &'static [ServiceOf<'static>] {
        CONFIGURATIONS[self.configuration]
    }

    fn is_member(&self, service: u8, backend: u8) -> bool {
        let behind = |(_, _, backends): &ServiceOf<'_>| backends.iter().any(|(number, _)| *number == backend);
        self.services().iter().any(|it| it.0 == service && behind(it))
    }

    fn has_backend(&self, backend: u8) -> bool {
        self.services().iter().any(|(service, ..)| self.is_member(*service, backend))
    }

    /// Another configuration: who left it begins anew one day.
    fn reload(&mut self, configuration: usize) {
        self.configuration = configuration;
        let now = self.clone();
        self.down.retain(|(service, backend)| now.is_member(*service, *backend));
        self.drained.retain(|backend| now.has_backend(*backend));
    }
}

/// A story under way.
struct Simulation {
    world: World,
    switchers: [Switcher; 2],
    random: Random,
    model: Model,
    /// The model when the generation on its way was filled, and when the active one was.
    filled: Model,
    active: Model,
    fills: u64,
    /// What each switcher reads.
    read: [Option<u64>; 2],
    counts: VecDeque<Count>,
    routes: BTreeMap<RouteKey, Route>,
    /// Orders without an answer, and until when there must be one.
    orders: BTreeMap<Ticket, u64>,
    /// The address that each id of a live connection's backend stood for when it was made.
    connections: BTreeMap<(usize, u8), filters::Made>,
    story: Vec<Operation>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let world = World::new(CONFIGURATIONS[0], LINES);
        let switchers = [0, 1].map(|number| Switcher::start(&world, number));
        let routes = world.kernel.routes.clone();
        Self {
            world,
            switchers,
            random: Random(seed),
            model: Model::default(),
            filled: Model::default(),
            active: Model::default(),
            fills: 0,
            read: [None; 2],
            counts: VecDeque::new(),
            routes,
            orders: BTreeMap::new(),
            connections: BTreeMap::new(),
            story: Vec::new(),
        }
    }

    fn choose(&mut self) -> Operation {
        let (service, backend) = (self.random.among(1..=3), self.random.among(1..=7));
        let number = usize::from(self.random.among(0..=1));
        match self.random.among(0..=40) {
            0..=3 => Operation::BackendDies { service, backend },
            4..=7 => Operation::BackendReturns { service, backend },
            8..=9 => Operation::Drain { backend },
            10..=12 => Operation::Enable { backend },
            13..=14 => Operation::Reload { configuration: self.random.among(0..=3).into() },
            15 => Operation::ReloadOfNonsense,
            16..=18 => {
                let says = ["drain", "ready 100%", "50%", "down"][usize::from(self.random.among(0..=3))];
                Operation::Report { service, backend, says }
            }
            19 => Operation::RouteGone,
            20..=21 => Operation::RouteReturns,
            22..=23 => Operation::CountEnds,
            24 => Operation::ControlKilled,
            25 => Operation::ControlKilledWhileFilling,
            26 => Operation::SwitcherKilled { number },
            27 => Operation::SwitcherStops { number },
            28..=30 => Operation::SwitcherGoesOn { number },
            31..=36 => Operation::Packet { number, service, client: self.random.among(1..=200) },
            _ => Operation::TimePasses { ms: [5, 10, 50, 400][usize::from(self.random.among(0..=3))] },
        }
    }

    fn perform(&mut self, operation: Operation) {
        self.story.push(operation);
        match operation {
            Operation::BackendDies { service, backend } => self.check(service, backend, Health::Down),
            Operation::BackendReturns { service, backend } => self.check(service, backend, Health::Up),
            Operation::Drain { backend } => self.drain(backend, true),
            Operation::Enable { backend } => self.drain(backend, false),
            Operation::Reload { configuration } => {
                self.world.write(CONFIGURATIONS[configuration], LINES);
                self.model.reload(configuration);
                self.order(Command::Reload);
            }
            Operation::ReloadOfNonsense => {
                self.world.spoil();
                self.turn(vec![Event::Hangup]);
            }
            Operation::Report { service, backend, says } => {
                let key = BackendKey { service: format!("s{service}"), backend: format!("b{backend}") };
                let answer = AgentAnswer::parse(says.as_bytes()).map_err(|error| error.to_string());
                self.turn(vec![Event::Answer(Outcome { key, answer })]);
            }
            Operation::RouteGone => self.set_routes(BTreeMap::new()),
            Operation::RouteReturns => self.set_routes(self.routes.clone()),
            Operation::CountEnds => {
                let count = self.counts.pop_front();
                self.turn(count.into_iter().map(Event::Counted).collect());
            }
            Operation::ControlKilled => self.restart(),
            Operation::ControlKilledWhileFilling => {
                self.fill_half();
                self.restart();
            }
            Operation::SwitcherKilled { number } => {
                self.switchers[number] = Switcher::restart(&self.world, number);
                self.read[number] = None;
            }
            Operation::SwitcherStops { number } => self.switchers[number].is_stopped = true,
            Operation::SwitcherGoesOn { number } => self.switchers[number].is_stopped = false,
            Operation::Packet { number, service, client } => self.send(number, service, client),
            Operation::TimePasses { ms } => self.pass(ms),
        }
    }

    fn check(&mut self, service: u8, backend: u8, health: Health) {
        if self.model.is_member(service, backend) {
            match health {
                Health::Down => self.model.down.insert((service, backend)),
                Health::Up => self.model.down.remove(&(service, backend)),
            };
        }
        self.turn(vec![checked(service, backend, health)]);
    }

    fn drain(&mut self, backend: u8, drained: bool) {
        if self.model.has_backend(backend) {
            match drained {
                true => self.model.drained.insert(backend),
                false => self.model.drained.remove(&backend),
            };
        }
        let selection = select(backend);
        self.order(if drained { Command::Drain(selection) } else { Command::Enable(selection) });
    }

    fn order(&mut self, command: Command) {
        let (ticket, event) = self.world.order(command);
        self.orders.insert(ticket, self.world.now.monotonic_ms + 5_100);
        self.turn(vec![event]);
    }

    fn set_routes(&mut self, routes: BTreeMap<RouteKey, Route>) {
        self.world.kernel.routes = routes;
        self.turn(vec![Event::Network(Changes { routes: true, ..Changes::default() })]);
    }

    fn pass(&mut self, ms: u64) {
        let step_ms = if ms < 100 { 5 } else { 20 };
        for _ in 0..ms / step_ms {
            self.world.now.monotonic_ms += step_ms - 5; // the turn itself adds 5
            self.turn(Vec::new());
        }
    }

    /// A turn of control, and then one of each switcher.
    fn turn(&mut self, events: Vec<Event>) {
        let outputs = self.world.turn(events);
        self.take(outputs);
        let mut has_followed = false;
        for switcher in &mut self.switchers {
            has_followed |= switcher.follow();
        }
        if has_followed {
            self.read = self.fingerprints();
        }
        let late = self.orders.iter().find(|(_, until_ms)| self.world.now.monotonic_ms > **until_ms);
        assert_eq!(late, None, "an order without an answer");
    }

    fn take(&mut self, outputs: Outputs) {
        for (ticket, reply) in outputs.replies {
            self.orders.remove(&ticket).expect("one answer an order");
            assert!(!matches!(reply, Reply::Configuration(_) | Reply::Backends { .. }), "another order's answer");
            if let Reply::InForce { epoch, .. } = reply {
                let mut in_use = self.switchers.iter().map(Switcher::in_use);
                assert!(in_use.all(|it| it == flip::Active::NONE || it.epoch() >= epoch), "in force for some only");
            }
        }
        if outputs.published.is_some() {
            self.active = self.filled.clone();
        }
        self.counts.extend(outputs.count.map(|request| {
            let connections = self.world.control.memory().connections;
            let counts = ConnectionCounts::scan(&connections, request.services, request.backends);
            Count { request, counts: Ok(counts) }
        }));
        let head = self.world.control.memory().control.head;
        let prepared = flip::Active(head.prepared.load(shunt_shmlayout::sync::Ordering::Relaxed));
        let fills = head.fills.load(shunt_shmlayout::sync::Ordering::Relaxed);
        if fills != std::mem::replace(&mut self.fills, fills) && prepared != self.world.control.memory().active() {
            self.filled = self.model.clone();
            self.check_generation(prepared.buffer());
            assert_eq!(self.read, self.fingerprints(), "a buffer that a living switcher reads was written to");
        }
    }

    /// A predecessor's life ends between two stores to the idle buffer, if it may write there at all.
    fn fill_half(&self) {
        let region = self.world.control.memory().control;
        let words = self.switchers.iter().map(|switcher| &switcher.region.head.in_use);
        if let Some(idle) = flip::idle_buffer(&region.head.active, words) {
            flip::begin_fill(&region.head.fills);
            region.generations[idle].clear();
        }
    }

    fn restart(&mut self) {
        let before = self.published_ids();
        self.world.restart();
        assert_eq!(self.ids_of(&before), before, "a successor gave another id");
        let configuration = self.model.configuration;
        self.model = self.active.clone();
        self.model.reload(configuration);
        (self.counts, self.orders) = (VecDeque::new(), BTreeMap::new());
        // A backend that declined by one service and was down by another is taken for down by both, until its checks say.
        let down = self.model.down.clone();
        let members = self
            .model
            .services()
            .iter()
            .flat_map(|(service, _, backends)| backends.iter().map(|(backend, _)| (*service, *backend)));
        let health = |pair| if down.contains(&pair) { Health::Down } else { Health::Up };
        self.turn(members.map(|(service, backend)| checked(service, backend, health((service, backend)))).collect());
    }

    /// Everybody lives, and time passes: then everything known is in force.
    fn settle(&mut self) {
        self.switchers.iter_mut().for_each(|switcher| switcher.is_stopped = false);
        self.set_routes(self.routes.clone());
        self.pass(1_200);
        assert!(self.orders.is_empty(), "an order without an answer");
        self.filled = self.model.clone();
        self.check_generation(self.world.control.memory().active().buffer());
        self.check_that_nobody_is_left_out();
    }
}

/// Says what happened when an invariant was broken.
struct Story(u64, Simulation);

impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SHUNT_SEED={}, {} operations: {:#?}", self.0, self.1.story.len(), self.1.story);
        }
    }
}

fn tell(seed: u64) {
    let mut story = Story(seed, Simulation::new(seed));
    let simulation = &mut story.1;
    simulation.pass(100);
    for _ in 0..OPERATIONS {
        let operation = simulation.choose();
        simulation.perform(operation);
        simulation.check_connections();
    }
    simulation.settle();
}

#[test]
fn whatever_dies_when_what_is_published_is_whole_and_right() {
    let seed = std::env::var("SHUNT_SEED").ok().map(|seed| seed.parse().expect("SHUNT_SEED is a number"));
    match seed {
        Some(seed) => tell(seed),
        None => (1..=SEEDS).for_each(tell),
    }
}
