//! The interface daemon's handover from the keeper.
//!
//! ```text
//! ifdaemon -> keeper   "Ifdaemon"
//! keeper -> ifdaemon   {"Granted":{...}} + ifdaemon, store.0, store.1, ..., wake-up, TUN device
//!                      {"Granted":null}    there is no pseudo-interface
//!                      {"Refused":"why, and what to do"}
//! ```
//!
//! The daemon keeps device and wake-up open as descriptors [`DEVICE_DESCRIPTOR`] and [`WAKE_DESCRIPTOR`], where a restarted
//! keeper finds them: the device, its addresses and their connections outlive both processes.

use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{HandoverError, Request, WAKE_DESCRIPTOR, renumber, request};

/// Number of the device's descriptor in the daemon.
pub const DEVICE_DESCRIPTOR: RawFd = 256;

/// Describes the attached descriptors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceManifest {
    /// The user to switch to.
    pub user: String,
    /// The device's name.
    pub device: String,
    /// Largest IP packet of the device, bytes.
    pub mtu: u32,
    /// Whether each packet has a vnet header and may exceed the MTU.
    pub has_offloads: bool,
    /// Number of switchers, and thus of stores.
    pub switchers: u16,
}

/// The daemon's descriptors.
#[derive(Debug)]
pub struct DeviceHandover {
    /// Describes the descriptors.
    pub manifest: DeviceManifest,
    /// The daemon's own region.
    pub region: OwnedFd,
    /// The packet stores, by switcher number.
    pub stores: Vec<OwnedFd>,
    /// The eventfd that ends the daemon's sleep.
    pub wake: OwnedFd,
    /// The TUN device.
    pub device: OwnedFd,
}

/// Requests the device and the packet stores; `None` if the configuration has no pseudo-interface.
pub fn ask(keeper: &Path) -> Result<Option<DeviceHandover>, HandoverError> {
    let (manifest, descriptors) = request::<Option<DeviceManifest>>(keeper, &Request::Ifdaemon)?;
    manifest.map(|manifest| sort(manifest, descriptors)).transpose()
}

fn sort(manifest: DeviceManifest, descriptors: Vec<OwnedFd>) -> Result<DeviceHandover, HandoverError> {
    let (sent, expected) = (descriptors.len(), 1 + usize::from(manifest.switchers) + 2);
    if sent != expected {
        return Err(HandoverError::Descriptors { sent, expected });
    }
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or(HandoverError::Descriptors { sent, expected });
    let region = next()?;
    let stores = (0..manifest.switchers).map(|_| next()).collect::<Result<_, _>>()?;
    let (wake, device) = (renumber(&next()?, WAKE_DESCRIPTOR)?, renumber(&next()?, DEVICE_DESCRIPTOR)?);
    Ok(DeviceHandover { manifest, region, stores, wake, device })
}
