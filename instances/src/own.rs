//! The machine's own addresses. No service may have one, because all other uses of it would be cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use shunt_config::{Config, Problem};
use shunt_routing::state::State;
use shunt_shmlayout::address::Address;

use crate::Other;

/// The box's own addresses, except those of these pseudo-interfaces.
pub fn local_addresses(pseudo_interfaces: &BTreeSet<String>) -> io::Result<BTreeSet<Address>> {
    let state = shunt_routing::addresses().map_err(io::Error::other)?;
    Ok(on_interfaces(&state, pseudo_interfaces).into_keys().collect())
}

/// The box's own addresses, except those of pseudo-interfaces. Those of other instances are reported separately.
pub fn addresses_beside(config: &Config) -> io::Result<BTreeSet<Address>> {
    Ok(interfaces_beside(config)?.into_keys().collect())
}

/// The same addresses, each with the name of its interface.
pub fn interfaces_beside(config: &Config) -> io::Result<BTreeMap<Address, String>> {
    let state = shunt_routing::addresses().map_err(io::Error::other)?;
    Ok(on_interfaces(&state, &pseudo_interfaces(config)))
}

/// Pseudo-interfaces of this instance, running or not, and of all others.
fn pseudo_interfaces(config: &Config) -> BTreeSet<String> {
    let others = Other::living(&config.instance).filter_map(|other| other.device());
    others.chain(config.host.iter().map(|host| host.device.clone())).collect()
}

fn on_interfaces(state: &State, but: &BTreeSet<String>) -> BTreeMap<Address, String> {
    let named = state.addresses.iter().map(|own| {
        let link = state.links.get(&own.ifindex);
        let name = link.map_or_else(|| format!("interface {}", own.ifindex), |link| link.name.clone());
        (Address::from(own.address), name)
    });
    named.filter(|(_, name)| !but.contains(name)).collect()
}

/// Addresses in a configuration that the box itself has (SSH!), as problems.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_with_their_interfaces_but_for_pseudo_interfaces() {
        let state = shunt_routing::addresses().unwrap();
        let loopback = Address::from_v4([127, 0, 0, 1]);
        assert_eq!(on_interfaces(&state, &BTreeSet::new()).get(&loopback), Some(&"lo".to_owned()));
        assert_eq!(on_interfaces(&state, &["lo".to_owned()].into()).get(&loopback), None);
    }
}
