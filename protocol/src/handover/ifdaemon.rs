//! What the interface daemon gets from the keeper.
//!
//! ```text
//! ifdaemon -> keeper   "Ifdaemon"
//! keeper -> ifdaemon   {"Granted":{...}} + ifdaemon, store.0, store.1, ..., wake-up, TUN device
//!                      {"Granted":null}    there is no pseudo-interface
//!                      {"Refused":"why, and what to do"}
//! ```
//!
//! The daemon keeps device and wake-up open as descriptors [`DEVICE_DESCRIPTOR`] and [`WAKE_DESCRIPTOR`], so that a
//! keeper that was killed finds them there, and the device, its addresses and the connections through it outlive both.

use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{HandoverError, Request, WAKE_DESCRIPTOR, renumber, request};

/// Number of the device's descriptor in the daemon.
pub const DEVICE_DESCRIPTOR: RawFd = 256;

/// What the descriptors are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The account to become.
    pub user: String,
    /// The device's name.
    pub device: String,
    /// Largest IP packet of the device, in bytes.
    pub mtu: u32,
    /// Whether each packet has a vnet header, and may be larger than that.
    pub has_offloads: bool,
    /// How many switchers, and so stores, there are.
    pub switchers: u16,
}

/// All that the daemon gets.
#[derive(Debug)]
pub struct Handover {
    /// What is what.
    pub manifest: Manifest,
    /// The daemon's own region.
    pub region: OwnedFd,
    /// The packet stores, by switcher.
    pub stores: Vec<OwnedFd>,
    /// The eventfd that ends the daemon's sleep.
    pub wake: OwnedFd,
    /// The TUN device.
    pub device: OwnedFd,
}

/// Asks the keeper for the device and the packet stores; `None` if the configuration has no pseudo-interface.
pub fn ask(keeper: &Path) -> Result<Option<Handover>, HandoverError> {
    let (manifest, descriptors) = request::<Option<Manifest>>(keeper, &Request::Ifdaemon)?;
    manifest.map(|manifest| sort(manifest, descriptors)).transpose()
}

fn sort(manifest: Manifest, descriptors: Vec<OwnedFd>) -> Result<Handover, HandoverError> {
    let (sent, expected) = (descriptors.len(), 1 + usize::from(manifest.switchers) + 2);
    if sent != expected {
        return Err(HandoverError::Descriptors { sent, expected });
    }
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or(HandoverError::Descriptors { sent, expected });
    let region = next()?;
    let stores = (0..manifest.switchers).map(|_| next()).collect::<Result<_, _>>()?;
    let (wake, device) = (renumber(&next()?, WAKE_DESCRIPTOR)?, renumber(&next()?, DEVICE_DESCRIPTOR)?);
    Ok(Handover { manifest, region, stores, wake, device })
}
