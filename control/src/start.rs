//! Start-up: the instance lock, the shared memory, and the configuration to use.
//!
//! ```text
//!  the file on disk -- good --------------------------------------> Candidate
//!                  \-- refused --> something runs, and what it runs \
//!                             \    with was saved? ---- yes --------> Candidate (resumed), and it is said
//!                              '------------------------ no --------> exit 78
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{error, info, warn};
use shunt_config::{Config, ConfigError, Limits, Problem};
use shunt_instances::accepted::instance_of;
use shunt_instances::{AddressLocks, addresses_beside};
use shunt_process::{Instance, Lock, LockError, control_lock, region_name};
use shunt_shmlayout::access::{Reader, Writer};
use shunt_shmlayout::connections::Connections;
use shunt_shmlayout::flip::Active;
use shunt_shmlayout::header::{AttachError, is_hidden};
use shunt_shmlayout::neighbours::places;
use shunt_shmlayout::regions::{ConnectionsRegion, ControlRegion, ControlShape, KeeperRegion, SwitcherRegion, Typed};
use shunt_shmlayout::sync::Ordering;

use crate::accepted::Accepted;
use crate::clock::Stopwatch;
use shunt_publish::candidate::{Candidate, Document, Grounds};
use shunt_publish::rehearsal::Rehearsal;
use shunt_publish::table::{NamedIds, Table};
use shunt_routing::error::NetlinkError;

/// Timeout for a keeper that is not running yet.
const PATIENCE: Duration = Duration::from_secs(10);
/// Interval for checking.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Why control does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another control runs.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The connection table's parts are inconsistent.
    #[error("the connection table is damaged: stop Shunt and start it again, so that it is made anew")]
    Table,
    /// Shared memory.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Netlink.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A file or socket.
    #[error("{what}: {source}")]
    System {
        /// The file or socket, and its purpose.
        what: String,
        /// The system error.
        source: io::Error,
    },
}

impl StartError {
    /// Returns true if a restart would fail the same way.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Config(_) => true,
            Self::Lock(error) => error.is_refusal(),
            Self::Table | Self::Attach(_) | Self::Netlink(_) | Self::System { .. } => false,
        }
    }
}

/// Adds the purpose of a system call to its error.
pub fn system_error<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> StartError {
    move |error| StartError::System { what: what.into(), source: error.into() }
}

/// The regions, mapped.
#[derive(Clone)]
pub struct Memory {
    /// Control's own region.
    pub control: ControlRegion<Writer>,
    /// Its capacity.
    pub shape: ControlShape,
    /// Interfaces, and the content of the XDP maps.
    pub keeper: KeeperRegion,
    /// The connection table, for counting.
    pub connections: Connections<'static>,
    /// By switcher number. Mapped writable for the consumer's end of the neighbour-request ring.
    pub switchers: Vec<SwitcherRegion<Reader, Writer>>,
}

impl Memory {
    /// Maps all regions once a keeper exists. Without a live keeper the regions that it left are used: packets are
    /// forwarded without it.
    pub async fn attach(instance: &Instance) -> Result<Self, StartError> {
        let keeper = wait_for_keeper(instance).await?;
        let name = |region: &str| region_name(instance, region);
        let (_, control) = ControlRegion::<Writer>::attach(&name("control"))?;
        let (control, shape) = ControlRegion::<Writer>::from_fd(&control, &name("control"))?;
        let (connections, _) = ConnectionsRegion::<Reader>::attach(&name("connections"))?;
        let connections = connections.table().ok_or(StartError::Table)?;
        let switchers = 0..keeper.switchers.len();
        let switchers = switchers.map(|n| SwitcherRegion::<Reader, Writer>::attach(&name(&format!("switcher.{n}"))));
        let switchers = switchers.map(|attached| attached.map(|(region, _)| region)).collect::<Result<_, _>>()?;
        Ok(Self { control, shape, keeper, connections, switchers })
    }

    /// The active generation; [`Active::NONE`] before the first.
    pub fn active(&self) -> Active {
        Active(self.control.head.active.load(Ordering::Acquire))
    }

    /// The settings that differ from those the memory was created with.
    fn misfit(&self, config: &Config) -> Option<Problem> {
        let switchers = (self.keeper.switchers.len() != config.switchers.cpus.count()).then_some("switchers");
        let field = other_limit(&self.control, &config.limits).or(switchers)?;
        let sentence = "isn't what the shared memory of this instance was made with; restart Shunt to change it";
        Some(config.source.problem(field, sentence))
    }

    /// A predecessor's last publication; empty before the first one.
    fn table(&self, rehearsal: &Rehearsal) -> Table {
        match self.active() {
            Active::NONE => rehearsal.empty_table(),
            active => Table::recover(&self.control.generations[active.buffer()]),
        }
    }
}

/// Everything needed to start.
pub struct Start {
    /// The configuration to use.
    pub candidate: Candidate,
    /// Saves it for a successor.
    pub accepted: Accepted,
    /// Private memory to validate reloads.
    pub rehearsal: Rehearsal,
    /// The regions.
    pub memory: Memory,
    /// Why the file on disk is not used, if it is not.
    pub refusal: Option<ConfigError>,
    /// Locks of the candidate's addresses.
    pub address_locks: AddressLocks,
    /// Held until exit, so that no other control starts.
    pub lock: Lock,
}

impl Start {
    /// Takes over the instance of the file at `path`.
    pub async fn begin(path: &Path) -> Result<Self, StartError> {
        let file = Document::read(path);
        let other = instance_of(&absolute(path));
        let is_others = |other: &Instance| file.as_ref().map_or(true, |file| was_renamed(other, &file.config.instance));
        let (instance, file) = match other.filter(is_others) {
            Some(other) => (other, file),
            None => {
                let document = file?;
                (document.config.instance.clone(), Ok(document))
            }
        };
        let lock = Lock::take(&control_lock(&instance), "shunt-control")?;
        let memory = Memory::attach(&instance).await?;
        warn_of_hidden(&memory.keeper);
        let rehearsal = Rehearsal::new(&memory.shape).map_err(system_error("memory to try configurations out in"))?;
        let accepted = Accepted::of(&instance);
        let what = "the file of the locks on addresses, in /run/shunt (run control as root)";
        let mut address_locks = AddressLocks::open().map_err(system_error(what))?;
        let Choice { candidate, refusal } = choose(file, &accepted, &memory, &rehearsal, &mut address_locks)?;
        for key in &candidate.missing_keys {
            error!("{key}; continuing without its reports; correct it, then `shunt reload`");
        }
        Ok(Self { candidate, accepted, rehearsal, memory, refusal, address_locks, lock })
    }
}

/// Returns true if an instance runs whose file was renamed and nothing was started with the new name.
fn was_renamed(runs: &Instance, name: &Instance) -> bool {
    let keeper = |instance: &Instance| KeeperRegion::<Reader>::attach(&region_name(instance, "keeper")).ok();
    runs != name && keeper(name).is_none() && keeper(runs).is_some_and(|(keeper, _)| keeper.keeper_lives())
}

/// The configuration to use.
pub(crate) struct Choice {
    pub candidate: Candidate,
    pub refusal: Option<ConfigError>,
}

/// The file, or the previous configuration if an instance runs.
pub(crate) fn choose(
    file: Result<Document, ConfigError>,
    accepted: &Accepted,
    memory: &Memory,
    rehearsal: &Rehearsal,
    locks: &mut AddressLocks,
) -> Result<Choice, ConfigError> {
    let (table, named) = (memory.table(rehearsal), NamedIds::in_generations(&memory.control.generations));
    let before = if memory.active() == Active::NONE { None } else { accepted.load() };
    let before = before.and_then(|before| {
        fitting(before, memory)
            .inspect_err(|error| warn!("the last accepted configuration does not fit:\n{error}"))
            .ok()
    });
    let running = before.as_ref().map(|document| &document.config);
    let (table, named, local) = (&table, &named, addresses_beside);
    let grounds = Grounds { rehearsal, table, named, running, local, needs_keys: false };
    let refusal = match file.and_then(|document| Candidate::new(fitting(document, memory)?, &grounds, locks)) {
        Ok(candidate) => return Ok(Choice { candidate, refusal: None }),
        Err(refusal) => refusal,
    };
    let grounds = Grounds { rehearsal, table, named, running: None, local, needs_keys: false };
    let Some(before) = before else { return Err(refusal) };
    error!("the configuration file is refused, going on with the one accepted last:\n{refusal}");
    let candidate = Candidate::resumed(before, &grounds, locks)?;
    Ok(Choice { candidate, refusal: Some(refusal) })
}

fn fitting(document: Document, memory: &Memory) -> Result<Document, ConfigError> {
    match memory.misfit(&document.config) {
        Some(problem) => Err(ConfigError::Refused(vec![problem])),
        None => Ok(document),
    }
}

impl Memory {
    /// Number of switchers that forward packets.
    pub fn running_switchers(&self) -> usize {
        self.keeper.switchers.iter().filter(|record| record.load().is_alive()).count()
    }
}

/// Warns of processes that `/proc` hides: if one dies and its id is reused, the new process holds a buffer.
fn warn_of_hidden(keeper: &KeeperRegion) {
    let switchers = keeper.switchers.iter().map(|record| u64::from(record.load().pid));
    let pids: Vec<u64> = [keeper.head.pid.get()].into_iter().chain(switchers).filter(|pid| is_hidden(*pid)).collect();
    if !pids.is_empty() {
        warn!(
            "cannot read /proc/PID/stat of keeper and switchers (pids {pids:?}): control counts each as running while any \
             process has its pid, and may not publish after one of them dies; mount /proc without hidepid, or give \
             control CAP_SYS_PTRACE"
        );
    }
}

/// The keeper's region, written after all others exist.
async fn wait_for_keeper(instance: &Instance) -> Result<KeeperRegion, StartError> {
    let (name, waited) = (region_name(instance, "keeper"), Stopwatch::start());
    let mut waits = false;
    loop {
        let attached = KeeperRegion::<Reader>::attach(&name).map(|(region, _)| region);
        match attached {
            Ok(keeper) if keeper.keeper_lives() => return Ok(keeper),
            Ok(keeper) if waited.elapsed() >= PATIENCE => {
                warn!("shunt-keeper is not running; continuing with the memory it left");
                return Ok(keeper);
            }
            Err(error) if waited.elapsed() >= PATIENCE => return Err(error.into()),
            _ if !waits => {
                info!("waiting for shunt-keeper to make the memory of instance {instance}");
                waits = true;
            }
            _ => {}
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

fn other_limit(control: &ControlRegion<Writer>, limits: &Limits) -> Option<&'static str> {
    let generation = &control.generations[0];
    let numbers = [
        (generation.services.len(), limits.services, "limits.services"),
        (generation.backends.len(), limits.backends, "limits.backends"),
        (generation.slots.len(), limits.slots, "limits.slots"),
        (control.neighbours.0.len(), places(limits.backends, limits.neighbours), "limits.neighbours"),
        ((generation.fib.len() - 1) / 2, limits.routes, "limits.routes"),
    ];
    numbers.into_iter().find(|(made, configured, _)| *made != *configured as usize).map(|(.., name)| name)
}

/// The absolute path of the configuration, so that a reload finds it from any working directory.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_shmlayout::regions::Whole;

    #[test]
    fn memory_of_other_limits_is_refused_by_name() {
        let shape = shunt_shmlayout::regions::ControlShape::new(8, 16, 2000, 64, 64);
        let region = ControlRegion::anonymous(&shape).unwrap();
        let right = Limits { services: 8, backends: 16, slots: 2000, neighbours: 64, routes: 64, ..Limits::default() };
        assert_eq!(other_limit(&region, &right), None);
        assert_eq!(other_limit(&region, &Limits { routes: 65, ..right }), Some("limits.routes"));
    }
}
