//! What an instance has to itself in its network namespace: its interfaces, its addresses, and the name of its
//! pseudo-interface.
//!
//! Two instances on one interface would take each other's queues or packets, and two with one address each other's
//! clients. What another living instance has is in its memory, also while its keeper is dead. A lock for each
//! interface and device, which ends with the keeper that holds it, decides between keepers that start at the same time.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use nix::net::if_::if_nametoindex;
use shunt_config::{Config, Instance, Lock, claim_lock, instances, region_name};
use shunt_shmlayout::address::Address;
use shunt_shmlayout::header::network_namespace;
use shunt_shmlayout::map::Access;
use shunt_shmlayout::regions::{ControlRegion, KeeperRegion, Typed};

use super::KeeperError;

/// Held until the value is dropped.
pub(super) struct Claims {
    _locks: Vec<Lock>,
}

/// A thing that one instance at a time can have.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Thing {
    Interface { name: String, index: u32 },
    Device(String),
    Address(IpAddr),
}

impl Claims {
    /// Takes all that the configuration names, or nothing. An interface that doesn't exist is for the checks to tell.
    pub fn take(config: &Config) -> Result<Claims, KeeperError> {
        let things = things(config);
        // Before any lock: another instance's keeper that is being started again must find its own free.
        let problems: Vec<String> =
            others(&config.instance).flat_map(|(other, keeper)| used(&other, &keeper, &things)).collect();
        if !problems.is_empty() {
            return Err(KeeperError::Problems(problems));
        }
        let namespace = network_namespace(std::process::id()).unwrap_or(0);
        let mut locks = Vec::new();
        for (thing, path) in things.iter().filter_map(|thing| Some((thing, thing.lock(namespace)?))) {
            let lock = Lock::claim(&path, &config.instance)?;
            locks.push(lock.map_err(|holder| KeeperError::Problems(vec![thing.refusal(&holder)]))?);
        }
        Ok(Claims { _locks: locks })
    }
}

/// The other living instances of this network namespace. Memory of another version tells nothing.
fn others(own: &Instance) -> impl Iterator<Item = (Instance, KeeperRegion)> {
    let others = instances().into_iter().filter(move |other| other != own);
    let attached = others.filter_map(|other| {
        let (region, _) = KeeperRegion::attach(&region_name(&other, "keeper"), Access::Read).ok()?;
        Some((other, region))
    });
    attached.filter(|(_, region)| region.lives_here())
}

/// Names of their pseudo-interfaces.
pub(super) fn devices_of_others(own: &Instance) -> BTreeSet<String> {
    let devices = others(own).filter(|(_, region)| region.head.device_index.get() != 0);
    devices.map(|(_, region)| region.head.device_name()).collect()
}

fn things(config: &Config) -> Vec<Thing> {
    let interface =
        |name: &String| Some(Thing::Interface { name: name.clone(), index: if_nametoindex(name.as_str()).ok()? });
    let interfaces = config.interfaces.iter().filter_map(|it| interface(&it.name));
    let devices = config.host.iter().map(|host| Thing::Device(host.device.clone()));
    let hosts = config.host.iter().flat_map(|host| &host.addresses).map(|address| IpAddr::from(*address));
    let services = config.services.iter().map(|service| service.address.ip());
    let addresses: BTreeSet<IpAddr> = hosts.chain(services).collect();
    interfaces.chain(devices).chain(addresses.into_iter().map(Thing::Address)).collect()
}

/// What a living instance has of these things, as refusals.
fn used(other: &Instance, keeper: &KeeperRegion, things: &[Thing]) -> Vec<String> {
    let control = ControlRegion::attach(&region_name(other, "control"), Access::Read).ok();
    let is_taken = |thing: &&Thing| match thing {
        Thing::Interface { index, .. } => keeper.interfaces().any(|(_, record)| record.ifindex == *index),
        Thing::Device(name) => keeper.head.device_index.get() != 0 && keeper.head.device_name() == *name,
        Thing::Address(ip) => control.as_ref().is_some_and(|(control, _)| control.has_address(&Address::from(*ip))),
    };
    things.iter().filter(is_taken).map(|thing| thing.refusal(&format!("instance \"{other}\""))).collect()
}

impl Thing {
    /// Addresses have none: control changes them at a reload.
    fn lock(&self, namespace: u64) -> Option<PathBuf> {
        match self {
            Self::Interface { index, .. } => Some(claim_lock("interface", namespace, &index.to_string())),
            Self::Device(name) => Some(claim_lock("device", namespace, name)),
            Self::Address(_) => None,
        }
    }

    fn refusal(&self, holder: &str) -> String {
        match self {
            Self::Interface { name, .. } => format!(
                "interface {name} is used by {holder}: stop that instance, or name another interface; one instance can \
                 have all the services of an interface"
            ),
            Self::Device(name) => {
                format!("host.device: {name} is the device of {holder}: stop that instance, or choose another name")
            }
            Self::Address(address) => {
                format!("address {address} is served by {holder}: stop that instance, or choose another address")
            }
        }
    }
}
