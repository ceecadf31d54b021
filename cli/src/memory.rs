//! The shared memory of one instance, attached read-only.
//!
//! No process of Shunt needs to live: the regions outlast them all.

use shunt_instances::present;
use shunt_process::{Instance, region_name};
use shunt_shmlayout::connections::Connections;
use shunt_shmlayout::header::AttachError;
use shunt_shmlayout::regions::{
    ConnectionsRegion, ControlRegion, IfdaemonRegion, KeeperRegion, StoreRegion, SwitcherRegion, Typed,
};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Why the memory could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Not root.
    #[error("the shared memory of instance {0} is readable by root only: run it with sudo")]
    Denied(Instance),
    /// No shared memory of this name.
    #[error("instance {instance} is not running: {missing} does not exist; {advice}")]
    NotRunning {
        /// Name of the instance.
        instance: Instance,
        /// The missing file.
        missing: PathBuf,
        /// The remedy.
        advice: String,
    },
    /// The region is invalid.
    #[error(transparent)]
    Unfit(AttachError),
    /// The sizes of the connection table's parts contradict each other.
    #[error("the connection table of instance {0} is damaged: stop Shunt and start it again, so that it is made anew")]
    Table(Instance),
}

/// The regions of one instance.
pub struct Memory {
    /// Name of the instance.
    pub instance: Instance,
    /// The control region.
    pub control: ControlRegion,
    /// The keeper region.
    pub keeper: KeeperRegion,
    /// The connection table.
    pub connections: Connections<'static>,
    /// Each switcher's region, by number.
    pub switchers: Vec<SwitcherRegion>,
    /// The pseudo-interface's regions, if configured.
    pub host: Option<HostMemory>,
    /// Inode of the keeper region's file, to detect that it was recreated.
    inode: Option<u64>,
}

/// The regions of the pseudo-interface.
pub struct HostMemory {
    /// The interface daemon's region.
    pub daemon: IfdaemonRegion,
    /// The packet store of each switcher, by number.
    pub stores: Vec<StoreRegion>,
}

impl HostMemory {
    fn attach(instance: &Instance, keeper: &KeeperRegion) -> Result<Option<Self>, MemoryError> {
        if keeper.head.device_index.get() == 0 {
            return Ok(None);
        }
        let stores = (0..keeper.switchers.len()).map(|n| attach(instance, &format!("store.{n}")));
        Ok(Some(Self { daemon: attach(instance, "ifdaemon")?, stores: stores.collect::<Result<_, _>>()? }))
    }
}

impl Memory {
    /// Attaches all regions.
    pub fn attach(instance: &Instance) -> Result<Self, MemoryError> {
        let inode = keeper_inode(instance);
        let keeper: KeeperRegion = attach(instance, "keeper")?;
        let connections: ConnectionsRegion = attach(instance, "connections")?;
        let numbers = 0..keeper.switchers.len();
        Ok(Self {
            instance: instance.clone(),
            control: attach(instance, "control")?,
            connections: connections.table().ok_or_else(|| MemoryError::Table(instance.clone()))?,
            switchers: numbers.map(|n| attach(instance, &format!("switcher.{n}"))).collect::<Result<_, _>>()?,
            host: HostMemory::attach(instance, &keeper)?,
            keeper,
            inode,
        })
    }

    /// Attaches again if the regions were recreated; otherwise keeps the mappings, because they are never unmapped.
    pub fn refresh(&mut self) -> Result<(), MemoryError> {
        if keeper_inode(&self.instance) != self.inode {
            *self = Self::attach(&self.instance)?;
        }
        Ok(())
    }

    /// The name of an interface by its id.
    pub fn interface_name(&self, id: u16) -> Option<String> {
        self.keeper.interfaces().find(|(number, _)| *number == id).map(|(_, record)| record.name.to_string())
    }
}

fn keeper_inode(instance: &Instance) -> Option<u64> {
    std::fs::metadata(shm_path(instance, "keeper")).map(|file| file.ino()).ok()
}

fn shm_path(instance: &Instance, region: &str) -> PathBuf {
    PathBuf::from(format!("/dev/shm{}", region_name(instance, region)))
}

fn attach<R: Typed>(instance: &Instance, region: &str) -> Result<R, MemoryError> {
    match R::attach(&region_name(instance, region)) {
        Ok((view, _)) => Ok(view),
        Err(AttachError::Missing(missing)) => {
            Err(MemoryError::NotRunning { instance: instance.clone(), missing, advice: advise(instance) })
        }
        Err(AttachError::System { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(MemoryError::Denied(instance.clone()))
        }
        Err(error) => Err(MemoryError::Unfit(error)),
    }
}

/// The remedy for an instance that does not run.
pub fn advise(instance: &Instance) -> String {
    let others = present();
    let others: Vec<_> = others.iter().filter(|other| *other != instance).map(Instance::as_str).collect();
    match others.as_slice() {
        [] => "start it with deploy/shunt-supervisor CONFIG".to_owned(),
        others => format!("choose another with --instance (there is: {}), or start it", others.join(", ")),
    }
}
