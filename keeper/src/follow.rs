//! Synchronizes the XDP maps and the pseudo-interface with the configuration table, and the maps with the box's own
//! addresses.
//!
//! Control announces the next epoch in `prepared`. The maps then get the addresses of both generations, the
//! pseudo-interface gets those of the box's own programs, and `owned` confirms it: the flip misses no packet of a new
//! service or backend, and none of an old one.
//!
//! Control waits for a keeper only up to a timeout. A keeper that was stopped meanwhile may read a generation that control
//! refills: it detects this and starts over ([`Reading`]).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use shunt_shmlayout::access::Writer;
use shunt_shmlayout::address::{Address, PortBe};
use shunt_shmlayout::clock::now_ms;
use shunt_shmlayout::config_table::Generation;
use shunt_shmlayout::endpoints::{AddressUse, Endpoint};
use shunt_shmlayout::flip::Reading;
use shunt_shmlayout::regions::{ControlRegion, KeeperRegion};

use super::host::PseudoInterface;
use super::regions::Regions;
use crate::bpf::{Redirect, RedirectError};
use shunt_instances::local_addresses;

/// Interval for reading the box's own addresses.
const LOCAL_INTERVAL: Duration = Duration::from_millis(250);
/// Delay before a failed update is retried.
const RETRY: Duration = Duration::from_secs(1);

/// Why an update failed.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    #[error("addresses of the pseudo-interface: {0}")]
    PseudoInterface(#[from] std::io::Error),
    #[error("the box's own addresses: {0}")]
    Local(std::io::Error),
}

/// The state of the XDP maps and the pseudo-interface.
pub(super) struct Follower {
    control: ControlRegion,
    keeper: KeeperRegion<Writer>,
    redirects: Vec<Redirect>,
    pseudo: Option<PseudoInterface>,
    /// The reading that the maps hold; `None` before the first turn.
    owned: Option<Reading>,
    local: BTreeSet<Address>,
    next_local: Instant,
    not_before: Instant,
    local_log: LogOnce,
    own_log: LogOnce,
}

/// Logs a repeated error once, until it changes.
#[derive(Default)]
struct LogOnce(Option<String>);

impl LogOnce {
    /// Logs the error, if it differs from the last one.
    fn note(&mut self, outcome: &Result<(), FollowError>) {
        if let Some(text) = self.changed(outcome) {
            log::error!("{text}; retrying, with no further message until the error changes");
        }
    }

    fn changed(&mut self, outcome: &Result<(), FollowError>) -> Option<String> {
        let text = outcome.as_ref().err().map(FollowError::to_string);
        let has_changed = text != self.0;
        self.0.clone_from(&text);
        text.filter(|_| has_changed)
    }
}

impl Follower {
    /// Maps and pseudo-interface are unsynchronized until the first turn.
    pub fn new(regions: &Regions, redirects: Vec<Redirect>, pseudo: Option<PseudoInterface>) -> Follower {
        let now = Instant::now();
        Follower {
            control: regions.control,
            keeper: regions.keeper,
            redirects,
            pseudo,
            owned: None,
            local: BTreeSet::new(),
            next_local: now,
            not_before: now,
            local_log: LogOnce::default(),
            own_log: LogOnce::default(),
        }
    }

    /// Checks everything once.
    pub fn turn(&mut self) {
        let now = Instant::now();
        if now >= self.next_local {
            let outcome = self.follow_local();
            self.next_local = now + if outcome.is_ok() { LOCAL_INTERVAL } else { RETRY };
            self.local_log.note(&outcome);
        }
        let reading = Reading::begin(&self.control.head.fills, &self.control.head.prepared);
        if self.owned.is_none_or(|owned| reading.is_news_to(owned)) && now >= self.not_before {
            // If control refilled the buffer meanwhile, the next turn reads the new generation.
            if let Some(addresses) = Addresses::read(&self.control, reading) {
                self.own(reading, &addresses, now);
            }
        }
        self.keeper.head.heartbeat_ms.set(now_ms());
    }

    fn own(&mut self, reading: Reading, addresses: &Addresses, now: Instant) {
        let outcome = self.apply(addresses);
        self.own_log.note(&outcome);
        if outcome.is_err() {
            self.not_before = now + RETRY;
            return;
        }
        let word = reading.prepared().0;
        self.owned = Some(reading);
        self.keeper.head.owned.store(word, Ordering::Release);
        log::debug!("the XDP maps hold the addresses of epoch word {word}");
    }

    fn apply(&mut self, addresses: &Addresses) -> Result<(), FollowError> {
        if let Some(pseudo) = &mut self.pseudo {
            pseudo.set_addresses(addresses.hosts.clone())?;
        }
        for redirect in &mut self.redirects {
            redirect.set_backends(addresses.backends.iter().copied())?;
            redirect.set_services(addresses.services.iter().copied())?;
        }
        Ok(())
    }

    fn follow_local(&mut self) -> Result<(), FollowError> {
        let names = self.pseudo.iter().map(|pseudo| pseudo.name().to_owned()).collect();
        let local = local_addresses(&names).map_err(FollowError::Local)?;
        if local != self.local {
            for redirect in &mut self.redirects {
                redirect.set_local(local.iter().copied())?;
            }
            self.local = local;
        }
        Ok(())
    }

    /// The pseudo-interface, if there is one.
    pub fn pseudo(&self) -> Option<&PseudoInterface> {
        self.pseudo.as_ref()
    }

    /// Detaches the programs and removes the pseudo-interface.
    pub fn detach(self) {
        drop(self.pseudo);
        for redirect in self.redirects {
            if let Err(error) = redirect.detach() {
                log::warn!("{error}");
            }
        }
    }
}

type Backend = (Address, PortBe, u8);

/// The addresses that the generations contain.
#[derive(Default, PartialEq, Eq, Debug)]
struct Addresses {
    services: BTreeSet<Address>,
    backends: BTreeSet<Backend>,
    /// Destinations of packets to the box's own programs.
    hosts: BTreeSet<Ipv4Addr>,
}

impl Addresses {
    /// Reads the complete generations; `None` if control wrote meanwhile.
    fn read(control: &ControlRegion, reading: Reading) -> Option<Self> {
        let mut addresses = Self::default();
        reading.buffers().for_each(|buffer| addresses.add(&control.generations[buffer]));
        reading.was_undisturbed(&control.head.fills).then_some(addresses)
    }

    fn add(&mut self, generation: &Generation) {
        for (address, port, protocol, endpoint) in generation.endpoints() {
            match endpoint {
                Endpoint::Service(_) | Endpoint::HostService(_) | Endpoint::Address(_) => {
                    self.services.insert(address);
                }
                Endpoint::Backend(_) => {
                    self.backends.insert((address, port, protocol));
                }
                Endpoint::Unknown => {}
            }
            if let Endpoint::Address(AddressUse::Shared | AddressUse::Host) = endpoint {
                self.hosts.extend(address.v4().map(Ipv4Addr::from));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_shmlayout::flip::{begin_fill, end_fill};
    use shunt_shmlayout::regions::{ControlShape, Whole};

    const OLD: Address = Address::from_v4([198, 18, 0, 1]);
    const NEW: Address = Address::from_v4([198, 18, 0, 2]);

    fn fill(generation: &Generation<Writer>, address: Address) {
        generation.clear();
        generation.add_endpoint(address, PortBe::default(), 0, Endpoint::Address(AddressUse::Services)).expect("room");
    }

    #[test]
    fn an_error_is_logged_once_until_it_changes_or_clears() {
        let mut log = LogOnce::default();
        let failed = |kind: std::io::ErrorKind| Err(FollowError::Local(kind.into()));
        let (first, second) = (failed(std::io::ErrorKind::OutOfMemory), failed(std::io::ErrorKind::PermissionDenied));
        let said = [&first, &first, &second, &first, &Ok(()), &first, &first].map(|it| log.changed(it).is_some());
        assert_eq!(said, [true, false, true, true, false, true, false]);
    }

    /// A keeper that is stopped while it reads, for so long that control fills that buffer again.
    #[test]
    fn a_generation_refilled_while_read_is_rejected() {
        let region = ControlRegion::anonymous(&ControlShape::new(4, 4, 64, 8, 8)).expect("memory");
        let (head, [a, b]) = (region.head, &region.generations);
        fill(a, OLD);
        let begin = || Reading::begin(&head.fills, &head.prepared);
        let services = |reading| Addresses::read(&region.lend(), reading).map(|addresses| addresses.services);
        let stopped = begin();
        begin_fill(&head.fills);
        b.clear();
        assert_eq!(services(stopped), None, "control has begun");
        assert_eq!(services(begin()), Some([OLD].into()), "the active one is whole");
        fill(b, NEW);
        end_fill(&head.fills);
        assert_eq!(services(stopped), None, "what it read may be older than what is there now");
        assert_eq!(services(begin()), Some([OLD, NEW].into()));
    }
}
