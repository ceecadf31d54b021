//! Other living instances in this network namespace, and what they have to themselves: interfaces, addresses, the name of
//! a pseudo-interface.
//!
//! The keeper asks before it takes anything, control before it uses a configuration. What an instance has stands in its
//! shared memory, also while its keeper or control is dead. Memory of another version tells nothing.

use std::collections::BTreeSet;
use std::net::IpAddr;

use shunt_config::{Config, Instance, Problem, instances, region_name};
use shunt_shmlayout::address::Address;
use shunt_shmlayout::map::Access;
use shunt_shmlayout::regions::{ControlRegion, KeeperRegion, Typed};

/// Another living instance.
pub struct Other {
    /// Its name.
    pub instance: Instance,
    keeper: KeeperRegion,
    control: Option<ControlRegion>,
}

impl Other {
    /// All of them.
    pub fn living(own: &Instance) -> impl Iterator<Item = Self> {
        let others = instances().into_iter().filter(move |other| other != own);
        others.filter_map(Self::attach).filter(|other| other.keeper.lives_here())
    }

    fn attach(instance: Instance) -> Option<Self> {
        let (keeper, _) = KeeperRegion::attach(&region_name(&instance, "keeper"), Access::Read).ok()?;
        let control = ControlRegion::attach(&region_name(&instance, "control"), Access::Read).ok();
        Some(Self { keeper, control: control.map(|(control, _)| control), instance })
    }

    /// Whether it uses the interface with this index.
    pub fn has_interface(&self, index: u32) -> bool {
        self.keeper.interfaces().any(|(_, record)| record.ifindex == index)
    }

    /// The name of its pseudo-interface.
    pub fn device(&self) -> Option<String> {
        (self.keeper.head.device_index.get() != 0).then(|| self.keeper.head.device_name())
    }

    /// Whether its active configuration has an address, for a service or the pseudo-interface.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.control.is_some_and(|control| control.has_address(&Address::from(address)))
    }
}

/// An address that another instance has. Two that answer ARP for one address, be it on different interfaces, take each
/// other's clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "address {address} is served by instance \"{instance}\" of this machine: stop that instance, or choose another address"
)]
pub struct TakenAddress {
    address: IpAddr,
    instance: Instance,
}

impl TakenAddress {
    /// Every address of a configuration that another instance has, but for those of which `is_ours` says that this one has
    /// them already.
    pub fn find(config: &Config, is_ours: impl Fn(IpAddr) -> bool) -> Vec<Self> {
        let wanted: Vec<IpAddr> = addresses(config).into_iter().filter(|address| !is_ours(*address)).collect();
        let others = Other::living(&config.instance).filter(|_| !wanted.is_empty());
        let taken = others.flat_map(|other| {
            let taken = wanted.iter().filter(|address| other.has_address(**address));
            let taken = taken.map(|address| Self { address: *address, instance: other.instance.clone() });
            taken.collect::<Vec<_>>()
        });
        taken.collect()
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_address_is_told_where_it_stands() {
        let text = "[switchers]\ncount = 1\n[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"web\"\n\
            address = \"198.18.0.1:80\"\nprotocol = \"tcp\"\ntarget = \"host\"\n[host]\naddresses = [\"198.18.0.101\"]\n";
        let config = Config::parse(text, "shunt.toml").unwrap();
        let [service, host] = <[IpAddr; 2]>::try_from(addresses(&config).into_iter().collect::<Vec<_>>()).unwrap();
        for (address, place) in
            [(service, "shunt.toml:7: service.web.address: "), (host, "shunt.toml:11: host.addresses: ")]
        {
            let taken = TakenAddress { address, instance: "lab".parse().unwrap() };
            let said = format!("{place}address {address} is served by instance \"lab\" of this machine: stop that");
            let problem = taken.problem(&config).to_string();
            assert!(problem.starts_with(&said), "{problem}");
        }
    }
}
