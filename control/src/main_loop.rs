//! Control's main loop: one task, no locks. Collects inputs, passes them to [`Control::turn`] with the time, and executes
//! the outputs: sockets, tasks, files and signals are here, decisions are there.
//!
//! ```text
//!  netlink, checks, reports of load, orders, counts, signals, time --> Inputs --> turn --> Outputs --> carry out
//! ```

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use log::{debug, info};
use shunt_config::{Config, ConfigError};
use shunt_instances::{AddressLocks, addresses_beside};
use shunt_process::{Lock, control_socket};
use shunt_shmlayout::header::start_time;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::accepted::Accepted;
use crate::admin::server::{self, Order};
use crate::clock::{Now, Stopwatch};
use crate::control::health::health_of;
use crate::control::outside::{Circumstances, Configurations, Count, CountRequest, Event, Inputs, Outputs, Ticket};
use crate::control::{Beginning, Control};
use crate::health::HealthUpdate;
use crate::health::checker::Checker;
use crate::health::notes::{Notes, NotesFile};
use crate::resource_manager::agent_check::{Outcome, Questioner};
use crate::resource_manager::socket::ReportSocket;
use crate::routing_daemon::announce::{Announcer, Announcing, Place};
use crate::routing_daemon::netlink::{EVENT_BUFFER_BYTES, Follower};
use crate::start::{Memory, Start, StartError, absolute, system_error};
use shunt_protocol::admin::{Command, Reply};
use shunt_publish::candidate::{Candidate, Document, Grounds};
use shunt_publish::rehearsal::Rehearsal;
use shunt_publish::retirement::ConnectionCounts;
use shunt_publish::table::{NamedIds, Table};
use shunt_routing::error::NetlinkError;

/// Control and its connections to the outside.
pub struct MainLoop {
    control: Control,
    follower: Follower,
    announcer: Arc<Announcer>,
    announcing: Announcing,
    checker: Checker,
    questioner: Questioner,
    report_socket: ReportSocket,
    accepted: Accepted,
    notes_file: NotesFile,
    configuration: ConfigurationFile,
    /// The clients of the admin socket that wait for a reply.
    clients: Clients,
    counts: mpsc::UnboundedSender<Count>,
    sources: Sources,
    last_turn: Duration,
    _lock: Lock,
}

/// What the loop waits for, besides netlink and load reports.
struct Sources {
    reports: mpsc::UnboundedReceiver<HealthUpdate>,
    orders: mpsc::Receiver<Order>,
    counts: mpsc::UnboundedReceiver<Count>,
    answers: mpsc::UnboundedReceiver<Outcome>,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// Receivers of replies.
#[derive(Default)]
struct Clients {
    last: u64,
    waiting: BTreeMap<Ticket, oneshot::Sender<Reply>>,
}

/// The file, and the other conditions for using it.
struct ConfigurationFile {
    path: PathBuf,
    rehearsal: Rehearsal,
    /// Locks of the addresses in use.
    address_locks: AddressLocks,
}

impl Configurations for ConfigurationFile {
    fn read(&mut self, table: &Table, named: &NamedIds, running: &Config) -> Result<Candidate, ConfigError> {
        let (rehearsal, running, local) = (&self.rehearsal, Some(running), addresses_beside);
        let grounds = Grounds { rehearsal, table, named, running, local, needs_keys: true };
        Candidate::new(Document::read(&self.path)?, &grounds, &mut self.address_locks)
    }
}

impl MainLoop {
    /// Takes over the instance.
    pub async fn start(path: &Path) -> Result<Self, StartError> {
        // Before the file is read: a SIGHUP from now on is a reload, also while the keeper is awaited.
        let hangup = listen(SignalKind::hangup())?;
        let Start { candidate, accepted, rehearsal, memory, refusal, address_locks, lock } = Start::begin(path).await?;
        let instance = candidate.document.config.instance.clone();
        let (notes_file, now) = (NotesFile::of(&instance), Now::read());
        let notes = Notes::recover(notes_file.load(), |key| health_of(&candidate.table, key), now.wall_ms());
        let follower = Follower::start(EVENT_BUFFER_BYTES)?;
        let raw = "a raw socket, to announce service addresses (run control as root or give it CAP_NET_RAW)";
        let announcer = Arc::new(Announcer::open().map_err(system_error(raw))?);
        let socket = control_socket(&instance);
        let listener = server::listen(&socket).map_err(system_error(socket.display().to_string()))?;
        let (checker, reports) = Checker::new();
        let (counts, counted) = mpsc::unbounded_channel();
        let (questioner, answers) = Questioner::new();
        let sources = Sources::new(reports, server::serve(listener), counted, answers, hangup)?;
        describe(&memory);
        let path = absolute(path);
        let refusal = refusal.map(|refusal| refusal.to_string());
        let beginning = Beginning { path: path.clone(), candidate, memory, notes, refusal };
        let (control, outputs) = Control::new(beginning, now);
        let mut main_loop = Self {
            control,
            follower,
            announcer,
            announcing: Announcing::default(),
            checker,
            questioner,
            report_socket: ReportSocket::default(),
            accepted,
            notes_file,
            configuration: ConfigurationFile { path, rehearsal, address_locks },
            clients: Clients::default(),
            counts,
            sources,
            last_turn: Duration::ZERO,
            _lock: lock,
        };
        main_loop.apply(outputs, now);
        Ok(main_loop)
    }

    /// Runs until SIGTERM or SIGINT. The memory stays, so that running switchers continue to forward.
    pub async fn run(mut self) -> Result<(), NetlinkError> {
        loop {
            let now = Now::read();
            let next = Instant::now() + Duration::from_millis(self.control.due_ms().saturating_sub(now.monotonic_ms));
            match self.wait(next).await? {
                ControlFlow::Continue(events) => self.turn(events),
                ControlFlow::Break(()) => break,
            }
        }
        info!("{}", shutdown_message(self.control.memory().running_switchers()));
        Ok(())
    }

    /// Waits for events, until the next turn is due.
    async fn wait(&mut self, next: Instant) -> Result<ControlFlow<(), Vec<Event>>, NetlinkError> {
        let sources = &mut self.sources;
        let events = tokio::select! {
            changes = self.follower.changed() => vec![Event::Network(changes?)],
            Some(report) = sources.reports.recv() => vec![Event::Health(report)],
            Some(order) = sources.orders.recv() => self.take_order(order),
            Some(count) = sources.counts.recv() => vec![Event::Counted(count)],
            () = self.report_socket.readable() => self.take_datagrams(),
            Some(answer) = sources.answers.recv() => vec![Event::Answer(answer)],
            _ = sources.hangup.recv() => sources.before_reload(Event::Hangup),
            _ = sources.terminate.recv() => return Ok(ControlFlow::Break(())),
            _ = sources.interrupt.recv() => return Ok(ControlFlow::Break(())),
            () = sleep_until(next) => Vec::new(),
        };
        Ok(ControlFlow::Continue(events))
    }

    fn take_order(&mut self, Order { command, answer }: Order) -> Vec<Event> {
        let is_reload = matches!(command, Command::Reload);
        let order = Event::Order { ticket: self.clients.add(answer), command };
        if is_reload { self.sources.before_reload(order) } else { vec![order] }
    }

    fn take_datagrams(&self) -> Vec<Event> {
        let mut events = Vec::new();
        self.report_socket.take(|source, datagram| events.push(Event::Datagram { source, bytes: datagram.to_vec() }));
        events
    }

    fn turn(&mut self, mut events: Vec<Event>) {
        let (now, stopwatch) = (Now::read(), Stopwatch::start());
        self.report_socket.open(now.monotonic_ms);
        let unanswered = self.follower.take_unanswered();
        events.extend((!unanswered.is_empty()).then_some(Event::Unanswered(unanswered)));
        let circumstances = Circumstances {
            is_unsaved: !self.accepted.is_saved(),
            not_listening: self.report_socket.fault().map(|(listen, why)| (listen, why.to_owned())),
            last_turn_us: self.last_turn.as_micros() as u64,
        };
        let inputs = Inputs { now, events, kernel: self.follower.state(), circumstances };
        let outputs = self.control.turn(inputs, &mut self.configuration);
        self.last_turn = stopwatch.elapsed();
        self.apply(outputs, now);
        self.accepted.retry(now.monotonic_ms);
        self.notes_file.save(self.control.notes());
    }

    fn apply(&mut self, outputs: Outputs, now: Now) {
        // No `..`: every output must be handled.
        let Outputs {
            replies,
            resolve,
            announce,
            stop_announcing,
            checks,
            paths,
            questions,
            listen,
            count,
            accepted,
            published: _,
        } = outputs;
        if let Some(text) = accepted {
            self.accepted.save(&text, &self.configuration.path, now.monotonic_ms);
        }
        for key in resolve {
            if let Err(error) = self.follower.resolve(key) {
                debug!("neighbour {} on link {}: {error}", key.address, key.ifindex);
            }
        }
        stop_announcing.into_iter().for_each(|(place, address)| self.announcing.stop(place, address));
        announce.into_iter().for_each(|(place, addresses)| self.announce(place, addresses));
        checks.into_iter().for_each(|checks| self.checker.apply(checks));
        paths.into_iter().for_each(|paths| self.checker.set_paths(paths));
        questions.into_iter().for_each(|questions| self.questioner.apply(questions));
        listen.into_iter().for_each(|listen| self.report_socket.listen(listen));
        count.into_iter().for_each(|request| self.count(request));
        replies.into_iter().for_each(|(ticket, reply)| self.clients.reply(ticket, reply));
    }

    fn announce(&mut self, place: Place, addresses: Vec<Ipv4Addr>) {
        info!("announcing {} addresses on link {}", addresses.len(), place.ifindex);
        for address in addresses {
            let announcer = self.announcer.clone();
            self.announcing.start(place, address, async move { announcer.announce(place, address).await });
        }
    }

    /// Counts connections on another thread.
    fn count(&self, request: CountRequest) {
        let connections = self.control.memory().connections;
        let (services, backends) = (request.services, request.backends);
        let scan = move || ConnectionCounts::scan(&connections, services, backends);
        tokio::spawn(tell_count(request, scan, self.counts.clone()));
    }
}

/// Runs a scan on another thread and sends its result or failure: the next count waits for it.
async fn tell_count(
    request: CountRequest,
    scan: impl FnOnce() -> ConnectionCounts + Send + 'static,
    done: mpsc::UnboundedSender<Count>,
) {
    let counts = tokio::task::spawn_blocking(scan).await.map_err(|error| error.to_string());
    // The receiver is gone only when control stops.
    let _ = done.send(Count { request, counts });
}

impl Clients {
    fn add(&mut self, answer: oneshot::Sender<Reply>) -> Ticket {
        self.last += 1;
        self.waiting.insert(Ticket(self.last), answer);
        Ticket(self.last)
    }

    /// A client that disconnected gets none.
    fn reply(&mut self, ticket: Ticket, reply: Reply) {
        if let Some(answer) = self.waiting.remove(&ticket) {
            let _ = answer.send(reply);
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal, StartError> {
    signal(kind).map_err(system_error("listening for signals"))
}

impl Sources {
    fn new(
        reports: mpsc::UnboundedReceiver<HealthUpdate>,
        orders: mpsc::Receiver<Order>,
        counts: mpsc::UnboundedReceiver<Count>,
        answers: mpsc::UnboundedReceiver<Outcome>,
        hangup: Signal,
    ) -> Result<Self, StartError> {
        Ok(Self {
            reports,
            orders,
            counts,
            answers,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup,
        })
    }

    /// Results for the old configuration must not be attributed to others of the same name.
    fn before_reload(&mut self, reload: Event) -> Vec<Event> {
        let reports = std::iter::from_fn(|| self.reports.try_recv().ok()).map(Event::Health);
        let answers = std::iter::from_fn(|| self.answers.try_recv().ok()).map(Event::Answer);
        reports.chain(answers).chain([reload]).collect()
    }
}

/// Records the writer in the region.
fn describe(memory: &Memory) {
    let (head, pid) = (memory.control.head, std::process::id());
    head.pid.set(pid.into());
    head.start_time.set(start_time(pid).unwrap_or(0));
}

/// Packet forwarding without control depends on the switchers, which a complete stop ends first.
fn shutdown_message(switchers: usize) -> String {
    match switchers {
        0 => "stopping; no switcher is running".to_owned(),
        count => format!("stopping; {count} switcher(s) go on with the last configuration, without health checks"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{BackendKey, Health};
    use shunt_publish::retirement::Leaving;

    fn key() -> BackendKey {
        BackendKey { service: "web".to_owned(), backend: "b1".to_owned() }
    }

    #[tokio::test]
    async fn what_checks_and_agents_said_comes_before_a_reload() {
        let (reports, reported) = mpsc::unbounded_channel();
        let (answers, answered) = mpsc::unbounded_channel();
        let (_orders, ordered) = mpsc::channel(1);
        let (_counts, counted) = mpsc::unbounded_channel();
        let mut sources =
            Sources::new(reported, ordered, counted, answered, listen(SignalKind::hangup()).unwrap()).unwrap();
        reports.send(HealthUpdate { key: key(), health: Health::Up, is_change: false, reason: String::new() }).unwrap();
        answers.send(Outcome { key: key(), answer: Err("no answer".to_owned()) }).unwrap();
        let events = sources.before_reload(Event::Hangup);
        assert!(matches!(events[..], [Event::Health(_), Event::Answer(_), Event::Hangup]), "{events:?}");
    }

    #[tokio::test]
    async fn a_scan_that_panics_is_told_too() {
        let (counts, mut counted) = mpsc::unbounded_channel();
        let request = CountRequest { leaving: Leaving::default(), reloads: 1, services: 1, backends: 1 };
        tell_count(request.clone(), || panic!("a damaged table"), counts).await;
        let count = counted.recv().await.unwrap();
        assert_eq!(count.request, request);
        assert!(count.counts.is_err_and(|why| why.contains("panic")));
    }
}
