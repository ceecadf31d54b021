//! The agent's loop: sample, wait for answers, report. One thread that sleeps in poll(2).
//!
//! ```text
//!  look every look_interval: read the kernel's counts, ask the sources
//!    then wait for answers, for pushed lines and for HAProxy, each taken as it comes
//!  report as soon as the answers are there (or half the interval has passed) and the period is over or the change sharp
//! ```

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::check_server::{CheckServer, answer_for};
use crate::dead_band::exceeds_dead_band;
use crate::epoch::{self, EpochError};
use crate::listening::Listener;
use crate::sample::cgroup::{self, Cgroup};
use crate::sample::command::Command;
use crate::sample::machine::Machine;
use crate::sample::nginx::Nginx;
use crate::sample::prometheus::Prometheus;
use crate::sample::sockets::Sockets;
use crate::sample::statsd::{Pushed, Socket};
use crate::sample::{LogLatch, Source};
use crate::settings::{self, Settings};
use shunt_report::{
    AgentKey, ConfigName, Listening, LoadReport, MOST_AHEAD_US, PERIOD_MS, ReportedLoad, SealError, ServerState, seal,
};

/// Shortest interval between reports, even after changes beyond the dead band.
const SHORTEST_GAP: Duration = Duration::from_millis(*PERIOD_MS.start() as u64);

/// Why the agent failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The epoch file cannot be used.
    #[error("epoch_file {0}: {1}")]
    Epoch(PathBuf, EpochError),
    /// The StatsD socket cannot be created.
    #[error("statsd_socket {0}: {1}; is its folder there, and may the agent write to it?")]
    Statsd(PathBuf, io::Error),
    /// The port for HAProxy's agent checks cannot be opened.
    #[error("backend.{0}.agent_check {1}: {2}; does another process listen there?")]
    Check(ConfigName, SocketAddr, io::Error),
    /// The socket for reports cannot be opened.
    #[error("control {0}: {1}")]
    Control(SocketAddr, io::Error),
    /// The kernel did not provide required data.
    #[error("{0}: {1}")]
    Kernel(&'static str, io::Error),
    /// A report cannot be encoded.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl RunError {
    /// Returns true if a restart would fail the same way.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Epoch(_, error) => error.is_refusal(),
            Self::Statsd(_, error) => epoch::is_refusal(error),
            Self::Check(..) | Self::Control(..) | Self::Kernel(..) | Self::Seal(_) => false,
        }
    }
}

/// One back-end and the sources of its load.
struct Backend {
    settings: settings::Backend,
    cgroup: Cgroup,
    sources: Vec<Box<dyn Source>>,
    pushed: Option<Pushed>,
    check: Option<CheckServer>,
    listener: Listener,
    load: ReportedLoad,
}

/// Sends reports to control.
struct Reporter {
    socket: UdpSocket,
    address: SocketAddr,
    key: AgentKey,
    report: LoadReport,
    sent: Option<Instant>,
    latch: LogLatch,
}

/// The running agent.
pub struct Agent {
    backends: Vec<Backend>,
    reporter: Option<Reporter>,
    machine: Machine,
    sockets: Sockets,
    tcp_latch: LogLatch,
    udp_latch: LogLatch,
    statsd: Option<Socket>,
    period: Duration,
    look_interval: Duration,
    sharp_permille: u16,
    looked: Instant,
    measured: Instant,
    /// Answers to the last sample's queries are pending.
    is_open: bool,
}

/// The epoch of this run. Warns if the file has an epoch from a time when the clock was ahead.
fn begin_run(file: PathBuf) -> Result<u64, RunError> {
    let clock_us = epoch::of_clock();
    let epoch_us = epoch::begin(&file, clock_us).map_err(|error| RunError::Epoch(file.clone(), error))?;
    let ahead_us = epoch_us - clock_us;
    if ahead_us > MOST_AHEAD_US {
        log::warn!(
            "epoch_file {}: the agent last started {} s later than the clock says now, so control refuses its reports \
             (epoch_ahead) until then; if the clock was wrong at that start, remove the file and start the agent again",
            file.display(),
            ahead_us / 1_000_000
        );
    }
    Ok(epoch_us)
}

impl Agent {
    /// Opens files and sockets; measures nothing yet.
    pub fn start(settings: Settings, now: Instant) -> Result<Self, RunError> {
        let Settings { name, control, period, look_interval, sharp_permille, epoch_file, statsd_socket, backends } =
            settings;
        let boot_epoch = match epoch_file {
            Some(file) => begin_run(file)?,
            None => epoch::of_clock(),
        };
        let statsd = statsd_socket.map(|path| Socket::open(&path).map_err(|error| RunError::Statsd(path, error)));
        let ports = |is_tcp: bool| -> Vec<u16> {
            let observed = backends.iter().filter(|backend| backend.is_tcp == is_tcp && !backend.is_elsewhere);
            observed.map(|backend| backend.port).collect()
        };
        let sockets = Sockets::open(&ports(true), &ports(false));
        let reporter = control.map(|control| Reporter::open(control, name, boot_epoch, period)).transpose()?;
        Ok(Self {
            backends: backends.into_iter().map(|backend| Backend::open(backend, now)).collect::<Result<_, _>>()?,
            reporter,
            machine: Machine::open().map_err(|error| RunError::Kernel("/proc", error))?,
            sockets: sockets.map_err(|error| RunError::Kernel("socket diagnostics", error))?,
            tcp_latch: LogLatch::new("socket diagnostics of TCP"),
            udp_latch: LogLatch::new("socket diagnostics of UDP"),
            statsd: statsd.transpose()?,
            period,
            look_interval,
            sharp_permille,
            looked: now,
            measured: now,
            is_open: false,
        })
    }

    /// Runs until an error that only an operator can fix.
    pub fn run(&mut self) -> Result<Infallible, RunError> {
        self.look(Instant::now());
        loop {
            let now = Instant::now();
            self.take(now);
            if now >= self.looked + self.look_interval {
                self.look(now);
            }
            if self.is_open && (!self.is_awaiting() || now >= self.looked + self.look_interval / 2) {
                self.is_open = false;
                self.report_if_due(now)?;
            }
            self.wait()?;
        }
    }

    /// Reads the kernel's counters and queries the sources.
    fn look(&mut self, now: Instant) {
        // Advances by whole intervals, so that a late sample does not delay all later ones; after a pause, restarts from
        // now.
        let next = self.looked + self.look_interval;
        self.looked = if now < next + self.look_interval { next.min(now) } else { now };
        self.is_open = true;
        self.machine.look(now);
        self.tcp_latch.note(self.sockets.look_at_tcp(now));
        self.udp_latch.note(self.sockets.look_at_udp(now));
        for backend in &mut self.backends {
            backend.look(now);
        }
    }

    /// Sleeps until a descriptor is ready or a timer expires.
    fn wait(&self) -> Result<(), RunError> {
        let due = self.looked + if self.is_open { self.look_interval / 2 } else { self.look_interval };
        // Rounded up: waking a millisecond early would cost an extra turn.
        let ms = due.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
        let timeout = PollTimeout::from(u16::try_from(ms).unwrap_or(u16::MAX));
        let mut awaited: Vec<PollFd<'_>> = Vec::new();
        for backend in &self.backends {
            let sources = backend.sources.iter().filter_map(|source| source.awaited());
            awaited.extend(sources.map(|(socket, flags)| PollFd::new(socket, flags)));
            awaited.extend(backend.check.iter().map(|check| PollFd::new(check.awaited(), PollFlags::POLLIN)));
        }
        awaited.extend(self.statsd.iter().map(|socket| PollFd::new(socket.awaited(), PollFlags::POLLIN)));
        match poll(&mut awaited, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(RunError::Kernel("poll", error.into())),
        }
    }

    /// Reads available data.
    fn take(&mut self, now: Instant) {
        if let Some(socket) = &self.statsd {
            let backends = &mut self.backends;
            let came = socket.take(|name, value| {
                backends
                    .iter_mut()
                    .filter_map(|backend| backend.pushed.as_mut())
                    .for_each(|pushed| pushed.record(name, value));
            });
            // Pushed data may exceed the dead band; several datagrams are evaluated together.
            self.is_open |= came && now >= self.measured + SHORTEST_GAP;
        }
        for backend in &mut self.backends {
            backend.sources.iter_mut().for_each(|source| source.advance(now));
            if let Some(check) = &mut backend.check {
                check.answer(&answer_for(&backend.load, backend.settings.capacity), now);
            }
        }
    }

    fn is_awaiting(&self) -> bool {
        self.backends
            .iter()
            .flat_map(|backend| &backend.sources)
            .any(|source| source.is_prompt() && source.awaited().is_some())
    }

    /// Combines the loads, and reports them if the interval has passed or a change exceeds the dead band.
    fn report_if_due(&mut self, now: Instant) -> Result<(), RunError> {
        self.measured = now;
        for backend in &mut self.backends {
            backend.measure(&self.machine, &self.sockets);
        }
        let Some(reporter) = &mut self.reporter else {
            return Ok(());
        };
        let loads: Vec<ReportedLoad> = self.backends.iter().map(|backend| backend.load.clone()).collect();
        let since = reporter.sent.map(|sent| now.duration_since(sent));
        // The next sample would exceed the report interval.
        let is_time = since.is_none_or(|since| since + self.look_interval / 2 >= self.period);
        let may_be_sharp = since.is_some_and(|since| since >= SHORTEST_GAP);
        if is_time || may_be_sharp && exceeds_dead_band(&reporter.report.loads, &loads, self.sharp_permille) {
            reporter.send(loads, now)?;
            for pushed in self.backends.iter_mut().filter_map(|backend| backend.pushed.as_mut()) {
                pushed.begin_report();
            }
        }
        Ok(())
    }
}

impl Backend {
    fn open(settings: settings::Backend, now: Instant) -> Result<Self, RunError> {
        let mut sources: Vec<Box<dyn Source>> = Vec::new();
        if let Some(page) = &settings.nginx {
            sources.push(Box::new(Nginx::new(page, now)));
        }
        if let Some(prometheus) = &settings.prometheus {
            sources.push(Box::new(Prometheus::new(prometheus, now)));
        }
        if let Some(command) = &settings.command {
            sources.push(Box::new(Command::new(command, now)));
        }
        let open = |address| {
            CheckServer::open(address).map_err(|error| RunError::Check(settings.name.clone(), address, error))
        };
        Ok(Self {
            cgroup: Cgroup::new(settings.cgroup.as_deref(), cgroup::TOP.as_ref(), now),
            sources,
            pushed: settings.statsd.as_ref().map(|metrics| Pushed::new(metrics, now)),
            check: settings.agent_check.map(open).transpose()?,
            listener: Listener::new(&settings),
            load: ReportedLoad::unknown(settings.name.clone()),
            settings,
        })
    }

    fn look(&mut self, now: Instant) {
        self.cgroup.look(now);
        for source in &mut self.sources {
            source.ask(now);
            // On an open connection the request is sent immediately.
            source.advance(now);
        }
        if let Some(pushed) = &mut self.pushed {
            pushed.look(now);
        }
    }

    /// Combines all sources; the more specific source overrides.
    fn measure(&mut self, machine: &Machine, sockets: &Sockets) {
        let mut load = ReportedLoad::unknown(self.settings.name.clone());
        load.workers = self.settings.workers.and_then(NonZeroU32::new);
        // The one closer to its limit.
        load.cpu_permille = machine.cpu_permille().max(self.cgroup.cpu_permille());
        load.memory_permille = machine.memory_permille().max(self.cgroup.memory_permille());
        let count = sockets.of(self.settings.port, self.settings.is_tcp);
        load.clients = count.filter(|_| self.settings.is_tcp).map(|count| count.clients);
        (load.port, load.listening) = (self.settings.port, self.listener.observe(count.map(|count| count.listeners)));
        if load.listening == Listening::NoLonger {
            load.state = ServerState::Down;
        }
        self.sources.iter().for_each(|source| source.contribute(&mut load));
        if let Some(pushed) = &self.pushed {
            pushed.contribute(&mut load);
        }
        let is_draining = self.settings.drain_file.as_ref().is_some_and(|file| file.exists());
        if is_draining && load.state == ServerState::Up {
            load.state = ServerState::Drain;
        }
        self.load = load.bounded();
    }
}

impl Reporter {
    fn open(
        control: settings::Control,
        agent: ConfigName,
        boot_epoch: u64,
        period: Duration,
    ) -> Result<Self, RunError> {
        let settings::Control { address, key } = control;
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let open = || -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind(any)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = open().map_err(|error| RunError::Control(address, error))?;
        // At most 1000.
        let period_ms = period.as_millis() as u16;
        let report = LoadReport { agent, boot_epoch, sequence: 0, period_ms, loads: Vec::new() };
        let latch = LogLatch::new(format!("control at {address}"));
        Ok(Self { socket, address, key, report, sent: None, latch })
    }

    /// The next report replaces a lost one.
    fn send(&mut self, loads: Vec<ReportedLoad>, now: Instant) -> Result<(), RunError> {
        self.report.sequence += 1;
        self.report.loads = loads;
        self.sent = Some(now);
        self.latch.note(self.socket.send_to(&seal(&self.report, &self.key)?, self.address));
        Ok(())
    }
}
