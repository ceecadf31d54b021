//! Interface addresses by `getifaddrs(3)`.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use nix::ifaddrs::getifaddrs;

/// The IPv4 addresses of one device.
pub fn addresses_of(device: &str) -> nix::Result<BTreeSet<Ipv4Addr>> {
    let entries = getifaddrs()?.filter(|entry| entry.interface_name == device);
    Ok(entries.filter_map(|entry| Some(entry.address?.as_sockaddr_in()?.ip())).collect())
}
