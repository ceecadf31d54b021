//! What control needs before its first turn: to be the only one, and the shared memory.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::{info, warn};
use shunt_config::{Config, ConfigError, Instance, Limits, LockError, region_name};
use shunt_shmlayout::connections::Connections;
use shunt_shmlayout::header::AttachError;
use shunt_shmlayout::map::Access;
use shunt_shmlayout::neighbours::places;
use shunt_shmlayout::regions::{ConnectionsRegion, ControlRegion, KeeperRegion, SwitcherRegion, Typed};

use crate::publish::error::CapacityError;
use crate::publish::publisher::is_alive;
use crate::resource_manager::agents::AgentsError;
use crate::routing_daemon::error::NetlinkError;

/// How long a keeper that isn't there yet is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Why control doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another one runs.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The memory was made for another configuration.
    #[error(
        "the shared memory of this instance was made with another {0} than the configuration has; restart Shunt to change it"
    )]
    OtherLimit(&'static str),
    /// The configuration doesn't fit into what is in use.
    #[error(transparent)]
    Capacity(#[from] CapacityError),
    /// The keys of the agents.
    #[error(transparent)]
    Agents(#[from] AgentsError),
    /// Shared memory.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Netlink.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A file or socket.
    #[error("{what}: {source}")]
    System {
        /// Which, and what for.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
}

impl StartError {
    /// Whether another start would end the same way.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Config(_) | Self::OtherLimit(_) | Self::Capacity(_) | Self::Agents(_) => true,
            Self::Lock(error) => error.is_refusal(),
            Self::Attach(_) | Self::Netlink(_) | Self::System { .. } => false,
        }
    }
}

/// Names what a system call was for.
pub fn system_error<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> StartError {
    move |error| StartError::System { what: what.into(), source: error.into() }
}

/// The regions, mapped.
pub struct Memory {
    /// Ours.
    pub control: ControlRegion,
    /// Interfaces, and what the XDP maps hold.
    pub keeper: KeeperRegion,
    /// The connection table, to be counted.
    pub connections: Connections<'static>,
    /// By switcher number. Mapped for writing because the consumer's end of the ring of wanted neighbours is in there.
    pub switchers: Vec<SwitcherRegion>,
}

impl Memory {
    /// Maps everything, once a keeper is there. Without a living one what it left is used: packets flow without it.
    pub async fn attach(config: &Config) -> Result<Self, StartError> {
        let keeper = wait_for_keeper(&config.instance).await?;
        let name = |region: &str| region_name(&config.instance, region);
        let (control, _) = ControlRegion::attach(&name("control"), Access::Write)?;
        check_limits(&control, &config.limits)?;
        let (connections, _) = ConnectionsRegion::attach(&name("connections"), Access::Read)?;
        let connections = connections.table().ok_or(StartError::OtherLimit("limits.connections"))?;
        if keeper.switchers.len() != config.switchers.cpus.count() {
            return Err(StartError::OtherLimit("number of switchers"));
        }
        let switchers = 0..keeper.switchers.len();
        let switchers = switchers.map(|n| SwitcherRegion::attach(&name(&format!("switcher.{n}")), Access::Write));
        let switchers = switchers.map(|attached| attached.map(|(region, _)| region)).collect::<Result<_, _>>()?;
        Ok(Self { control, keeper, connections, switchers })
    }
}

impl Memory {
    /// How many switchers forward packets at present.
    pub fn running_switchers(&self) -> usize {
        let heads = self.switchers.iter().map(|switcher| switcher.head);
        heads.filter(|head| is_alive(head.pid.get(), head.start_time.get())).count()
    }
}

/// The keeper's region, which it describes itself in when all others are made.
async fn wait_for_keeper(instance: &Instance) -> Result<KeeperRegion, StartError> {
    let (name, until) = (region_name(instance, "keeper"), Instant::now() + PATIENCE);
    let mut waits = false;
    loop {
        let attached = KeeperRegion::attach(&name, Access::Read).map(|(region, _)| region);
        match attached {
            Ok(keeper) if is_alive(keeper.head.pid.get(), keeper.head.start_time.get()) => return Ok(keeper),
            Ok(keeper) if Instant::now() >= until => {
                warn!("shunt-keeper is not running; going on with the memory it left");
                return Ok(keeper);
            }
            Err(error) if Instant::now() >= until => return Err(error.into()),
            _ if !waits => {
                info!("waiting for shunt-keeper to make the memory of instance {instance}");
                waits = true;
            }
            _ => {}
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

fn check_limits(control: &ControlRegion, limits: &Limits) -> Result<(), StartError> {
    let generation = &control.generations[0];
    let numbers = [
        (generation.services.len(), limits.services, "limits.services"),
        (generation.backends.len(), limits.backends, "limits.backends"),
        (generation.slots.len(), limits.slots, "limits.slots"),
        (control.neighbours.0.len(), places(limits.backends, limits.neighbours), "limits.neighbours"),
        ((generation.ranges.len() - 1) / 2, limits.routes, "limits.routes"),
    ];
    let other = numbers.into_iter().find(|(made, configured, _)| *made != *configured as usize);
    other.map_or(Ok(()), |(.., name)| Err(StartError::OtherLimit(name)))
}

/// Where the configuration is, as an absolute path, so that a reload finds it whatever the working directory is by then.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_other_limits_is_refused_by_name() {
        let shape = shunt_shmlayout::regions::ControlShape::new(8, 16, 2000, 64, 64);
        let region = ControlRegion::anonymous(&shape).unwrap();
        let right = Limits { services: 8, backends: 16, slots: 2000, neighbours: 64, routes: 64, ..Limits::default() };
        assert!(check_limits(&region, &right).is_ok());
        let wrong = Limits { routes: 65, ..right };
        let refused = check_limits(&region, &wrong).unwrap_err().to_string();
        assert!(refused.contains("another limits.routes than"), "{refused}");
    }
}
