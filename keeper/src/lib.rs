//! The keeper: the only privileged process (initialisation of the switching processor, patent Fig. 11).
//!
//! It makes the shared memory, opens every interface queue, loads the XDP program, makes the pseudo-interface, hands the
//! descriptors to switchers and interface daemon, and keeps a copy of each, so that queues and device outlive them. It
//! writes the keeper region and the XDP maps.
//!
//! ```text
//!  start:  lock -> claims -> check -> regions -> pseudo-interface -> ports -> XDP program -> publish -> keeper.sock
//!                                       |               |              |           |
//!  restart after kill -9:             attach       from living    from living    pinned
//!                                         ifdaemon       switchers
//! ```

pub mod bpf;
mod check;
mod claims;
mod follow;
mod host;
mod interrupts;
mod listener;
mod napi;
mod pins;
mod plan;
pub mod port;
mod ports;
mod receive_threads;
mod reception;
mod regions;
mod serve;
mod system;
mod teardown;

use std::fs::Permissions;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use shunt_config::Config;
use shunt_process::{Lock, LockError, bpf_directory, keeper_lock, runtime_directory};

use claims::Claims;
use follow::Follower;
use host::PseudoInterface;
use ports::Ports;
use reception::Reception;
use regions::Regions;
use serve::HandoverServer;
pub use system::NetworkInterface;

/// Interval for checking control's `prepared` word.
const TURN_MS: u16 = 10;
/// How long a keeper that stops waits for the processes that use its memory.
const USERS_END_WITHIN: Duration = Duration::from_secs(2);

/// Why the keeper does not run. A keeper that fails to start leaves nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// Another keeper of the instance runs.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// One or more problems, one per line.
    #[error("{}", .0.join("\n"))]
    Problems(Vec<String>),
    /// A file operation failed.
    #[error("{path}: {error}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// A region could not be created or attached.
    #[error(transparent)]
    Attach(#[from] shunt_shmlayout::header::AttachError),
    /// The XDP program.
    #[error("{place}: {error}")]
    Redirect {
        /// File, line and field of the interface.
        place: String,
        /// The error.
        error: crate::bpf::RedirectError,
    },
    /// bpffs.
    #[error("mounting a bpffs: {0}")]
    Mount(crate::bpf::RedirectError),
    /// An AF_XDP queue could not be opened.
    #[error("{place}: {error}")]
    XdpPort {
        /// File, line and field of the interface.
        place: String,
        /// The error.
        error: crate::port::af_xdp::OpenError,
    },
    /// An AF_PACKET port could not be opened.
    #[error("{place}: {error}")]
    PacketPort {
        /// File, line and field of the interface.
        place: String,
        /// The error.
        error: crate::port::af_packet::OpenError,
    },
    /// The configuration differs from the one that the running switchers use.
    #[error(
        "{what} differs from the running switchers' setting; stop Shunt (deploy/shunt-supervisor) and start it again"
    )]
    Changed {
        /// The field that differs.
        what: String,
    },
    /// A system call failed.
    #[error("{what}: {error}")]
    System {
        /// Name of the call.
        what: &'static str,
        /// The system's error.
        error: std::io::Error,
    },
}

fn system_error<E: Into<std::io::Error>>(what: &'static str) -> impl FnOnce(E) -> KeeperError {
    move |error| KeeperError::System { what, error: error.into() }
}

fn file_error<E: Into<std::io::Error>>(path: impl Into<PathBuf>) -> impl FnOnce(E) -> KeeperError {
    move |error| KeeperError::File { path: path.into(), error: error.into() }
}

/// A started keeper.
struct Keeper {
    config: Config,
    regions: Regions,
    server: HandoverServer,
    follower: Follower,
    reception: Reception,
    /// Held until the keeper ends, so that no second keeper runs.
    _claims: Claims,
    _lock: Lock,
}

/// Runs until SIGTERM or SIGINT, then removes everything.
pub fn run(config: Config) -> Result<(), KeeperError> {
    // Blocked before anything exists, so that a signal during the start cannot leave a half-made instance.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().map_err(system_error("blocking signals"))?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(system_error("signalfd"))?;
    let mut keeper = Keeper::start(config)?;
    keeper.serve(&signals)?;
    keeper.stop();
    Ok(())
}

/// Restricts the runtime directory to root, whichever process created it.
fn close_directory(directory: &Path) -> Result<(), KeeperError> {
    std::fs::set_permissions(directory, Permissions::from_mode(0o700)).map_err(file_error(directory))
}

/// Combines both results, with the problems of both.
fn both<A, B>(a: Result<A, KeeperError>, b: Result<B, KeeperError>) -> Result<(A, B), KeeperError> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(KeeperError::Problems(a)), Err(KeeperError::Problems(b))) => Err(KeeperError::Problems([a, b].concat())),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

impl Keeper {
    fn start(config: Config) -> Result<Keeper, KeeperError> {
        check::require_root()?;
        let lock = Lock::take(&keeper_lock(&config.instance), "shunt-keeper")?;
        close_directory(&runtime_directory(&config.instance))?;
        let (claims, facts) =
            both(Claims::take(&config), check::check(&config, regions::has_living_switchers(&config)))?;
        let (regions, is_restart) = Regions::attach_or_create(&config, &facts)?;
        let started = Self::start_on(&config, &facts, &regions, is_restart);
        match started {
            Ok((server, follower, reception)) => {
                Ok(Keeper { config, regions, server, follower, reception, _claims: claims, _lock: lock })
            }
            Err(error) => {
                if !is_restart {
                    teardown::remove_memory(&regions);
                    teardown::remove_pins(&config.instance);
                }
                Err(error)
            }
        }
    }

    /// The steps after the shared memory is in place.
    fn start_on(
        config: &Config,
        facts: &check::Facts,
        regions: &Regions,
        is_restart: bool,
    ) -> Result<(HandoverServer, Follower, Reception), KeeperError> {
        // Only now: a keeper that fails earlier must not remove another one's socket.
        serve::remove_stale(&config.instance)?;
        if !is_restart {
            // A configuration accepted for memory that is gone does not apply to this start.
            teardown::remove_saved(&config.instance);
        }
        let pseudo = PseudoInterface::open(config, facts, regions)?;
        Self::start_ports(config, facts, regions, pseudo, is_restart)
    }

    fn start_ports(
        config: &Config,
        facts: &check::Facts,
        regions: &Regions,
        pseudo: Option<PseudoInterface>,
        is_restart: bool,
    ) -> Result<(HandoverServer, Follower, Reception), KeeperError> {
        let directory = bpf_directory(&config.instance);
        // Checked once: if a switcher dies after this, taking its sockets back finds it dead.
        let has_switchers = regions.living().next().is_some();
        if !has_switchers {
            // No process has a queue: all ports are planned and opened again; only connections are kept.
            regions.forget_ports();
            crate::bpf::unmount(&directory).map_err(KeeperError::Mount)?;
        }
        pins::require(regions, &directory)?;
        crate::bpf::mount(&directory).map_err(KeeperError::Mount)?;
        let ports = if has_switchers {
            Ports::take_back(config, facts, regions, &directory)?
        } else {
            Ports::open(config, facts, regions, &directory, is_restart)?
        };
        regions.publish(config, facts, &ports.records);
        ports.log(config);
        let Ports { records, sockets, redirects, reception } = ports;
        let mut follower = Follower::new(regions, redirects, pseudo);
        // Before clients can connect: after a crash the configuration table exists already.
        follower.turn();
        let server = HandoverServer::open(config, &facts.cpus, records, sockets)?;
        log::info!("instance \"{}\" is ready below {}", config.instance, runtime_directory(&config.instance).display());
        Ok((server, follower, reception))
    }

    fn serve(&mut self, signals: &SignalFd) -> Result<(), KeeperError> {
        loop {
            let mut events =
                [PollFd::new(self.server.socket(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            match poll(&mut events, PollTimeout::from(TURN_MS)) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(system_error("poll")(error)),
            }
            let ready = |event: &PollFd<'_>| event.any().unwrap_or(false);
            if ready(&events[1]) {
                return Ok(());
            }
            if ready(&events[0]) {
                self.server.answer(&self.regions, self.follower.pseudo());
            }
            self.follower.turn();
            self.reception.keep();
            self.server.keep();
        }
    }

    /// A signal to the whole process group (Ctrl-C, timeout(1)) ends switchers and interface daemon at the same time as the
    /// keeper.
    fn wait_for_users(&self) {
        let until = Instant::now() + USERS_END_WITHIN;
        while self.regions.are_used() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Removes everything: the kernel gets all packets again, memory and files are gone. While a switcher or the interface
    /// daemon lives, everything stays for the next keeper, as after a kill.
    fn stop(self) {
        self.wait_for_users();
        let users = self.regions.users();
        if !users.is_empty() {
            log::warn!(
                "stopping, but {} still runs: queues, XDP programs, pseudo-interface and shared memory stay for the next \
                 keeper. To stop Shunt, stop switchers and interface daemon first, as the supervisor does",
                users.join(", ")
            );
            return;
        }
        log::info!("stopping: removing XDP programs, queues, pseudo-interface and shared memory");
        // First: without the XDP program a veth has no NAPI and rejects its settings.
        drop(self.reception);
        self.follower.detach();
        drop(self.server);
        teardown::remove_pins(&self.config.instance);
        teardown::remove_memory(&self.regions);
        teardown::remove_saved(&self.config.instance);
    }
}
