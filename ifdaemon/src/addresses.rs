//! The source addresses that the box's programs may use: those that the keeper assigned to the device. They are read from
//! the kernel, so that a change needs no message.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use shunt_netlink::addresses_of;

/// Minimum interval between kernel requests, for a flood of foreign sources.
const INTERVAL: Duration = Duration::from_millis(10);

/// A cache of the device's addresses.
pub struct Addresses {
    device: String,
    known: BTreeSet<Ipv4Addr>,
    not_before: Instant,
}

impl Addresses {
    /// An empty cache.
    pub fn new(device: String) -> Self {
        Self { device, known: BTreeSet::new(), not_before: Instant::now() }
    }

    /// Whether the device has this address. Before it returns false it refreshes the cache. A removed address counts until
    /// the next refresh: the kernel sends nothing from it.
    pub fn contains(&mut self, address: Ipv4Addr) -> bool {
        self.known.contains(&address) || (self.refresh() && self.known.contains(&address))
    }

    /// Refreshes the cache, unless that was done recently; returns whether it did.
    fn refresh(&mut self) -> bool {
        let now = Instant::now();
        if now < self.not_before {
            return false;
        }
        self.not_before = now + INTERVAL;
        match addresses_of(&self.device) {
            Ok(known) => {
                self.known = known;
                true
            }
            Err(errno) => {
                log::warn!("addresses of {}: {errno}", self.device);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_device_s_addresses_are_its_own() {
        let mut addresses = Addresses::new("lo".into());
        assert!(addresses.contains(Ipv4Addr::LOCALHOST));
        assert!(!addresses.contains(Ipv4Addr::new(198, 18, 0, 101)));
        assert!(!Addresses::new("no-such-device".into()).contains(Ipv4Addr::LOCALHOST));
    }
}
