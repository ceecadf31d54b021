//! Control's main loop: one task, no locks. Everything that happens only changes what is known; each turn, a few
//! milliseconds apart, publishes what that comes to.
//!
//! ```text
//!  netlink, health reports, reports of load, orders, counts, signals --> note it
//!  each turn: heartbeat, interfaces, neighbours, loads, publication, draining, orders that waited too long, files for a
//!      successor
//! ```

mod answers;
mod draining;
mod feedback;
mod neighbours;
mod orders;
mod paths;
mod publication;
mod selection;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{info, warn};
use shunt_config::Config;
use shunt_instances::AddressLocks;
use shunt_process::{Lock, control_socket};
use shunt_shmlayout::flip::Active;
use shunt_shmlayout::header::start_time;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::accepted::Accepted;
use crate::admin::server::{self, Order};
use crate::announcements::Announcements;
use crate::clock::{monotonic_ms, wall_ms};
use crate::health::checker::Checker;
use crate::health::configured::checks;
use crate::health::notes::Notes;
use crate::health::{BackendKey, Health, Report};
use crate::resource_manager::agent_check::{Outcome, Questioner};
use crate::routing_daemon::netlink::{EVENT_BUFFER_BYTES, Follower};
use crate::start::{Memory, Start, StartError, absolute, system_error};
use answers::Watch;
use draining::Draining;
use feedback::Feedback;
use neighbours::Asking;
use orders::Waiting;
use publication::Publication;
use shunt_publish::agents::{Agents, KeyMissing};
use shunt_publish::arp_cache::ArpCache;
use shunt_publish::candidate::{Candidate, Document};
use shunt_publish::own::OwnAddresses;
use shunt_publish::publisher::Publisher;
use shunt_publish::rehearsal::Rehearsal;
use shunt_publish::table::Table;
use shunt_publish::ways::{Interfaces, Ways};
use shunt_routing::error::NetlinkError;
use shunt_routing::state::Changes;

/// From one turn to the next while something is on its way to the switchers, and while nothing is: it bounds how long a
/// switcher's wish for a neighbour waits, and each turn takes some 50 us of a CPU that others may need.
const TURN: Duration = Duration::from_millis(5);
const QUIET_TURN: Duration = Duration::from_millis(20);

/// Everything control knows.
pub struct Control {
    path: PathBuf,
    config: Config,
    accepted: Accepted,
    rehearsal: Rehearsal,
    memory: Memory,
    table: Table,
    ways: Ways,
    own: OwnAddresses,
    interfaces: Interfaces,
    follower: Follower,
    asking: Asking,
    announcements: Announcements,
    publication: Publication,
    draining: Draining,
    checker: Checker,
    feedback: Feedback,
    watch: Watch,
    /// Why each check last changed its mind.
    notes: Notes,
    waiting: Vec<Waiting>,
    /// Why the file was refused when it was last read.
    refusal: Option<String>,
    /// Keys of agents that it goes on without, and why.
    missing_keys: Vec<String>,
    last_turn: Instant,
    inputs: Inputs,
    /// Of the addresses that it serves.
    address_locks: AddressLocks,
    _lock: Lock,
}

/// What the loop waits for, besides netlink.
struct Inputs {
    reports: mpsc::UnboundedReceiver<Report>,
    orders: mpsc::Receiver<Order>,
    counts: mpsc::UnboundedReceiver<draining::Count>,
    answers: mpsc::UnboundedReceiver<Outcome>,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Control {
    /// Takes the instance over, as it stands or from nothing.
    pub async fn start(path: &Path) -> Result<Self, StartError> {
        let Start { candidate, accepted, rehearsal, memory, refusal, missing_keys, address_locks, lock } =
            Start::begin(path).await?;
        let Candidate { document, table, agents } = candidate;
        let notes = Notes::of(&document.config.instance, |key| health_of(&table, key), wall_ms());
        let follower = Follower::start(EVENT_BUFFER_BYTES)?;
        let raw = "a raw socket, to announce service addresses (run control as root or give it CAP_NET_RAW)";
        let announcements = Announcements::open().map_err(system_error(raw))?;
        let socket = control_socket(&document.config.instance);
        let listener = server::listen(&socket).map_err(system_error(socket.display().to_string()))?;
        let (checker, reports) = Checker::new();
        let (draining, counts) = Draining::new();
        let (questioner, answers) = Questioner::new();
        let inputs = Inputs::new(reports, server::serve(listener), counts, answers)?;
        describe(&memory);
        let switchers = memory.switchers.iter().map(|region| region.lend()).collect();
        let publisher = Publisher::new(memory.control, memory.keeper, switchers, monotonic_ms());
        let cache = ArpCache::new(memory.control.neighbours, &memory.control.generations);
        let mut control = Self {
            path: absolute(path),
            accepted,
            rehearsal,
            memory,
            table,
            ways: Ways::default(),
            own: OwnAddresses::default(),
            interfaces: Interfaces::default(),
            follower,
            asking: Asking::default(),
            announcements,
            publication: Publication::new(publisher, cache),
            draining,
            checker,
            feedback: Feedback::new(questioner),
            watch: Watch::default(),
            notes,
            waiting: Vec::new(),
            refusal: refusal.map(|refusal| refusal.to_string()),
            missing_keys: missing_keys.iter().map(KeyMissing::to_string).collect(),
            last_turn: Instant::now(),
            inputs,
            config: document.config.clone(),
            address_locks,
            _lock: lock,
        };
        control.check_health();
        control.heed(agents);
        if control.refusal.is_none() {
            control.keep(&document);
        }
        Ok(control)
    }

    /// Runs until SIGTERM or SIGINT. The memory stays as it is, so that running switchers go on forwarding.
    pub async fn run(mut self) -> Result<(), NetlinkError> {
        let (services, backends) = (self.config.services.len(), self.table.backends().count());
        info!("instance {}: {services} services, {backends} backends", self.config.instance);
        loop {
            let next_turn = self.last_turn + if self.is_busy() { TURN } else { QUIET_TURN };
            let inputs = &mut self.inputs;
            tokio::select! {
                changes = self.follower.changed() => self.follow_network(changes?),
                Some(report) = inputs.reports.recv() => self.record_health(report),
                Some(order) = inputs.orders.recv() => self.obey(order),
                Some(count) = inputs.counts.recv() => self.retire(count),
                () = self.feedback.socket.readable() => self.take_reports(),
                Some(answer) = inputs.answers.recv() => self.record_answer(answer),
                _ = inputs.hangup.recv() => self.reload_on_signal(),
                _ = inputs.terminate.recv() => break,
                _ = inputs.interrupt.recv() => break,
                () = sleep_until(next_turn) => self.turn(monotonic_ms()),
            }
        }
        info!("{}", parting_words(self.memory.running_switchers()));
        Ok(())
    }

    /// Whether a turn would do something soon.
    fn is_busy(&self) -> bool {
        self.publication.is_busy() || !self.waiting.is_empty() || self.asking.is_busy() || self.feedback.is_busy()
    }

    fn turn(&mut self, now_ms: u64) {
        self.last_turn = Instant::now();
        self.memory.control.head.heartbeat_ms.set(now_ms);
        self.follow_interfaces();
        self.ask_for_neighbours(now_ms);
        self.count_own_calls();
        self.follow_loads(now_ms);
        self.look_for_answers(now_ms);
        self.publish(now_ms);
        self.count_connections(now_ms);
        self.give_up_waiting(now_ms);
        self.leave_for_successor(now_ms);
    }

    /// A configuration was accepted: a successor of this process goes on by it.
    fn keep(&mut self, document: &Document) {
        self.accepted.save(document, &self.path, monotonic_ms());
        self.memory.control.head.reloaded_ms.set(wall_ms());
    }

    fn leave_for_successor(&mut self, now_ms: u64) {
        self.accepted.retry(now_ms);
        self.notes.save();
    }

    /// Runs the checks that the configuration asks for.
    fn check_health(&mut self) {
        let checks = checks(&self.config);
        let checked: BTreeSet<&BackendKey> = checks.iter().map(|check| &check.key).collect();
        self.notes.retain(|key| checked.contains(key));
        let (table, now_ms) = (&self.table, wall_ms());
        checked.iter().for_each(|key| self.notes.begin(key, health_of(table, key), now_ms));
        self.checker.apply(checks, |key| health_of(table, key));
        self.find_paths();
    }

    /// Takes reports from these agents from now on.
    fn heed(&mut self, agents: Agents) {
        self.feedback.configure(&self.config, &mut self.table, agents, &self.memory.control);
    }

    fn record_health(&mut self, report: Report) {
        let Report { key, health, is_change, reason } = &report;
        let ids = self.table.service_named(&key.service).zip(self.table.backend_named(&key.backend));
        let Some((service, backend)) = ids else { return };
        match health {
            _ if !is_change => {}
            Health::Up => info!("backend {} is up for service {}: {reason}", key.backend, key.service),
            Health::Down => warn!("backend {} is down for service {}: {reason}", key.backend, key.service),
        }
        self.publication.dirty |= self.table.set_health(service, backend, *health);
        self.notes.add(report, wall_ms());
    }

    fn follow_network(&mut self, changes: Changes) {
        if changes.routes || changes.links || changes.addresses {
            self.find_ways();
        }
        if changes.links {
            self.announce();
        }
        self.publication.neighbours_changed |= changes.neighbours || changes.addresses;
    }

    /// The keeper gives an interface that was made again its old id.
    fn follow_interfaces(&mut self) {
        let interfaces = Interfaces::read(&self.memory.keeper);
        if interfaces != self.interfaces {
            self.interfaces = interfaces;
            self.find_ways();
            self.announce();
            self.publication.dirty = true;
            self.publication.neighbours_changed = true;
        }
    }

    fn find_ways(&mut self) {
        let own = OwnAddresses::new(self.follower.state(), &self.interfaces);
        if own != self.own {
            self.own = own;
            self.publication.neighbours_changed = true;
        }
        let ways = Ways::new(self.follower.state(), &self.interfaces, &self.own);
        let (found, room) = (ways.ranges().len(), self.memory.control.generations[0].ranges.len());
        if found > room {
            warn!(
                "the routes make {found} ranges of addresses, there is room for {room}: ways stay as they were; \
                 raise limits.routes and restart Shunt"
            );
        } else if ways != self.ways {
            self.ways = ways;
            self.publication.dirty = true;
        }
    }

    /// Not before switchers answer for the addresses.
    fn announce(&mut self) {
        if self.publication.publisher.active() != Active::NONE {
            self.announcements.update(&self.table, &self.follower.state().links, &self.interfaces);
        }
    }
}

/// Says in the region who its writer is.
fn describe(memory: &Memory) {
    let (head, pid) = (memory.control.head, std::process::id());
    head.pid.set(pid.into());
    head.start_time.set(start_time(pid).unwrap_or(0));
    head.heartbeat_ms.set(monotonic_ms());
}

/// What becomes of packets without control: that depends on the switchers, which a complete stop ends first.
fn parting_words(switchers: usize) -> String {
    match switchers {
        0 => "stopping; no switcher is running".to_owned(),
        count => format!("stopping; {count} switcher(s) go on with the last configuration, without health checks"),
    }
}

fn health_of(table: &Table, key: &BackendKey) -> Health {
    let ids = table.service_named(&key.service).zip(table.backend_named(&key.backend));
    ids.map_or(Health::Up, |(service, backend)| table.health(service, backend))
}

impl Inputs {
    fn new(
        reports: mpsc::UnboundedReceiver<Report>,
        orders: mpsc::Receiver<Order>,
        counts: mpsc::UnboundedReceiver<draining::Count>,
        answers: mpsc::UnboundedReceiver<Outcome>,
    ) -> Result<Self, StartError> {
        let listen = |kind| signal(kind).map_err(system_error("listening for signals"));
        Ok(Self {
            reports,
            orders,
            counts,
            answers,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }
}
