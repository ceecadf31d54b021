//! The addresses that the box's programs may send from: those that the keeper gave the device. The kernel is asked, so
//! that a change needs no message.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use shunt_netlink::addresses_of;

/// A flood of foreign sources makes the kernel be asked no more often than this.
const INTERVAL: Duration = Duration::from_millis(10);

/// What is known of the device's addresses.
pub struct Addresses {
    device: String,
    known: BTreeSet<Ipv4Addr>,
    not_before: Instant,
}

impl Addresses {
    /// Nothing is known yet.
    pub fn new(device: String) -> Self {
        Self { device, known: BTreeSet::new(), not_before: Instant::now() }
    }

    /// Whether this is one of them. Before saying no, looks whether it is a new one. One that was removed is believed until
    /// then: the kernel sends nothing from it.
    pub fn contains(&mut self, address: Ipv4Addr) -> bool {
        self.known.contains(&address) || (self.ask() && self.known.contains(&address))
    }

    /// Whether the kernel was asked.
    fn ask(&mut self) -> bool {
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
