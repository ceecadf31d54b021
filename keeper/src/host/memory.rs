//! The shared memory between switchers and interface daemon, created only if a pseudo-interface is configured.

use std::os::fd::OwnedFd;

use shunt_process::{Instance, region_name};
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::header::AttachError;
use shunt_shmlayout::regions::{IfdaemonRegion, IfdaemonShape, StoreRegion, StoreShape, Whole};

use super::super::regions::attach;

/// Descriptors to hand over.
pub(crate) struct HostRegions {
    /// The daemon's own region.
    pub daemon_fd: OwnedFd,
    /// The packet stores, by switcher.
    pub store_fds: Vec<OwnedFd>,
}

impl HostRegions {
    /// Names of the regions: the daemon's, then the stores.
    pub fn names(instance: &Instance, switchers: usize) -> Vec<String> {
        let stores = (0..switchers).map(|number| format!("store.{number}"));
        std::iter::once("ifdaemon".into()).chain(stores).map(|region| region_name(instance, &region)).collect()
    }

    /// Creates the regions.
    pub fn create(names: &[String], store: &StoreShape) -> Result<HostRegions, AttachError> {
        let (_, daemon_fd) = IfdaemonRegion::create(&names[0], &IfdaemonShape::default(), |_| {})?;
        let stores = names[1..].iter().map(|name| StoreRegion::create(name, store, |_| {}).map(|(_, fd)| fd));
        Ok(HostRegions { daemon_fd, store_fds: stores.collect::<Result<_, _>>()? })
    }

    /// Attaches the existing regions.
    pub fn attach(names: &[String], store: &StoreShape) -> Result<HostRegions, AttachError> {
        let (_, daemon_fd) =
            attach::<IfdaemonRegion<Writer>>(&names[0], &IfdaemonShape::default()).map_err(as_changed)?;
        let stores = names[1..].iter().map(|name| attach::<StoreRegion<Writer, Writer>>(name, store).map(|(_, fd)| fd));
        Ok(HostRegions { daemon_fd, store_fds: stores.collect::<Result<_, _>>().map_err(as_changed)? })
    }
}

/// All other regions exist: a missing one was not configured when they were created.
fn as_changed(error: AttachError) -> AttachError {
    match error {
        AttachError::Missing(path) => AttachError::Field {
            path,
            field: "pseudo-interface",
            found: "not configured".into(),
            expected: "[host]".into(),
            advice: "it takes effect when Shunt is stopped and started again",
        },
        other => other,
    }
}
