//! Addresses that another instance in this network namespace has: two that answer ARP for one address, be it on different
//! interfaces, take each other's clients. The keeper looks at the start, control before a reload.

use std::collections::BTreeSet;
use std::net::IpAddr;

use shunt_config::{Config, Instance, Problem, instances, region_name};
use shunt_shmlayout::address::Address;
use shunt_shmlayout::map::Access;
use shunt_shmlayout::regions::{ControlRegion, KeeperRegion, Typed};

/// An address that can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "address {address} is served by instance \"{instance}\" of this machine: stop that instance, or choose another address"
)]
pub struct TakenAddress {
    address: IpAddr,
    instance: Instance,
}

impl TakenAddress {
    /// The same with the file, line and field of the configuration that wants it.
    pub fn problem(&self, config: &Config) -> Problem {
        let service = config.services.iter().find(|service| service.address.ip() == self.address);
        let field = service.map(|service| format!("service.{}.address", service.name));
        config.source.problem(field.unwrap_or_else(|| "host.addresses".to_owned()), self.to_string())
    }
}

/// Addresses of services and of the pseudo-interface.
fn addresses(config: &Config) -> BTreeSet<IpAddr> {
    let services = config.services.iter().map(|service| service.address.ip());
    let hosts = config.host.iter().flat_map(|host| &host.addresses).map(|address| IpAddr::from(*address));
    services.chain(hosts).collect()
}

/// Refuses addresses that `next` has, `now` doesn't, and another living instance does.
pub fn check_addresses(next: &Config, now: &Config) -> Result<(), TakenAddress> {
    let added = &addresses(next) - &addresses(now);
    let others = instances().into_iter().filter(|other| *other != next.instance && !added.is_empty());
    let mut taken = others.filter_map(|instance| {
        let address = *added.iter().find(|address| serves(&instance, **address))?;
        Some(TakenAddress { address, instance })
    });
    taken.next().map_or(Ok(()), Err)
}

/// Whether a living instance has an address in its active configuration. Memory of another version tells nothing.
fn serves(instance: &Instance, address: IpAddr) -> bool {
    let keeper = KeeperRegion::attach(&region_name(instance, "keeper"), Access::Read);
    if !keeper.is_ok_and(|(keeper, _)| keeper.lives_here()) {
        return false;
    }
    let control = ControlRegion::attach(&region_name(instance, "control"), Access::Read);
    control.is_ok_and(|(control, _)| control.has_address(&Address::from(address)))
}
