//! The machine's own addresses, which no service may have: everything else that uses one would be cut off.

use std::collections::BTreeSet;
use std::io;

use nix::ifaddrs::getifaddrs;
use shunt_config::{Config, Problem};
use shunt_shmlayout::address::Address;

use crate::Other;

/// The box's own addresses, but for those of these pseudo-interfaces.
pub fn local_addresses(pseudo_interfaces: &BTreeSet<String>) -> io::Result<BTreeSet<Address>> {
    let others = getifaddrs()?.filter(|entry| !pseudo_interfaces.contains(&entry.interface_name));
    let addresses = others.filter_map(|entry| {
        let address = entry.address?;
        let v4 = address.as_sockaddr_in().map(|address| Address::from_v4(address.ip().octets()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| Address(address.ip().octets())))
    });
    Ok(addresses.collect())
}

/// The box's own addresses, but for those of pseudo-interfaces. Those of other instances are told as theirs elsewhere.
pub fn addresses_beside(config: &Config) -> io::Result<BTreeSet<Address>> {
    let mut pseudo_interfaces: BTreeSet<String> =
        Other::living(&config.instance).filter_map(|other| other.device()).collect();
    pseudo_interfaces.extend(config.host.iter().map(|host| host.device.clone()));
    local_addresses(&pseudo_interfaces)
}

/// What of a configuration takes addresses that the box itself has (SSH!), or would have twice.
pub fn own_addresses(config: &Config, local: &BTreeSet<Address>) -> Vec<Problem> {
    let hosts = config.host.iter().flat_map(|host| &host.addresses);
    let hosts = hosts.filter(|address| local.contains(&Address::from_v4(address.octets()))).map(|address| {
        let sentence = format!(
            "{address} is an address of this machine on another interface, from which packets would not go through \
             Shunt; take it off there (ip address del {address} dev ...), or choose another"
        );
        config.source.problem("host.addresses", sentence)
    });
    let own = config.services.iter().filter(|service| local.contains(&Address::from(service.address.ip())));
    own.map(|service| {
        let address = service.address.ip();
        let sentence = format!(
            "{address} is an address of this machine, and everything else that uses it would be cut off; take it off \
             the interface (ip address del {address} dev ...): Shunt answers ARP for it itself"
        );
        config.source.problem(format!("service.{}.address", service.name), sentence)
    })
    .chain(hosts)
    .collect()
}
