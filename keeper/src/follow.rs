//! Keeping the XDP maps and the pseudo-interface in step with the configuration table, and the maps with the box's own
//! addresses.
//!
//! Control announces a coming epoch in `prepared`; the maps then get the addresses of both generations, the
//! pseudo-interface those that the box's own programs have, and `owned` answers, so that no packet of a new service or
//! backend is missed when control flips, and none of an old one either.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use shunt_shmlayout::address::{Address, PortBe};
use shunt_shmlayout::clock::now_ms;
use shunt_shmlayout::config_table::Generation;
use shunt_shmlayout::endpoints::{AddressUse, Endpoint};
use shunt_shmlayout::regions::{ControlRegion, KeeperRegion};

use super::host::PseudoInterface;
use super::regions::Regions;
use super::system::local_addresses;
use crate::bpf::{Redirect, RedirectError};

/// How often the box's own addresses are asked for.
const LOCAL_INTERVAL: Duration = Duration::from_millis(250);
/// After a map refused something, the next try is this much later.
const RETRY: Duration = Duration::from_secs(1);

/// What could not be put into place.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    #[error("addresses of the pseudo-interface: {0}")]
    PseudoInterface(#[from] std::io::Error),
}

/// What of the generations is in the maps.
pub(super) struct Follower {
    control: ControlRegion,
    keeper: KeeperRegion,
    redirects: Vec<Redirect>,
    pseudo: Option<PseudoInterface>,
    /// The `prepared` word whose addresses the maps hold; `None` before the first turn.
    owned: Option<u64>,
    local: BTreeSet<Address>,
    next_local: Instant,
    not_before: Instant,
}

impl Follower {
    /// Nothing is in step before the first turn.
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
        }
    }

    /// One look at everything.
    pub fn turn(&mut self) {
        let now = Instant::now();
        if now >= self.next_local {
            self.next_local = now + LOCAL_INTERVAL;
            self.follow_local();
        }
        let prepared = self.control.head.prepared.load(Ordering::Acquire);
        if self.owned != Some(prepared) && now >= self.not_before {
            match self.own() {
                Ok(()) => {
                    self.owned = Some(prepared);
                    self.keeper.head.owned.store(prepared, Ordering::Release);
                    log::debug!("the XDP maps hold the addresses of epoch word {prepared}");
                }
                Err(error) => {
                    self.not_before = now + RETRY;
                    log::error!("{error}; trying again");
                }
            }
        }
        self.keeper.head.heartbeat_ms.set(now_ms());
    }

    /// Puts the addresses of both generations into place. Both stand still: control waits for `owned`.
    fn own(&mut self) -> Result<(), FollowError> {
        if let Some(pseudo) = &mut self.pseudo {
            pseudo.set_addresses(host_addresses(&self.control.generations))?;
        }
        let (services, backends) = addresses(&self.control.generations);
        for redirect in &mut self.redirects {
            redirect.set_backends(backends.iter().copied())?;
            redirect.set_services(services.iter().copied())?;
        }
        Ok(())
    }

    fn follow_local(&mut self) {
        let local = match local_addresses(&self.pseudo.iter().map(|pseudo| pseudo.name().to_owned()).collect()) {
            Ok(local) if local != self.local => local,
            Ok(_) => return,
            Err(error) => return log::error!("the box's own addresses: {error}"),
        };
        for redirect in &mut self.redirects {
            if let Err(error) = redirect.set_local(local.iter().copied()) {
                return log::error!("{error}; trying again");
            }
        }
        self.local = local;
    }

    /// The pseudo-interface, if there is one.
    pub fn pseudo(&self) -> Option<&PseudoInterface> {
        self.pseudo.as_ref()
    }

    /// Takes the programs off the interfaces, and the pseudo-interface away.
    pub fn detach(self) {
        if let Some(pseudo) = self.pseudo {
            pseudo.remove();
        }
        for redirect in self.redirects {
            if let Err(error) = redirect.detach() {
                log::warn!("{error}");
            }
        }
    }
}

type Backend = (Address, PortBe, u8);

/// Service addresses and backends of the generations together.
fn addresses(generations: &[Generation]) -> (BTreeSet<Address>, BTreeSet<Backend>) {
    let (mut services, mut backends) = (BTreeSet::new(), BTreeSet::new());
    for (address, port, protocol, endpoint) in generations.iter().flat_map(Generation::endpoints) {
        match endpoint {
            Endpoint::Service(_) | Endpoint::HostService(_) | Endpoint::Address(_) => {
                services.insert(address);
            }
            Endpoint::Backend(_) => {
                backends.insert((address, port, protocol));
            }
        }
    }
    (services, backends)
}

/// The addresses of the generations that packets to the box's own programs have.
fn host_addresses(generations: &[Generation]) -> BTreeSet<Ipv4Addr> {
    let endpoints = generations.iter().flat_map(Generation::endpoints);
    let hosts = endpoints.filter_map(|(address, .., endpoint)| match endpoint {
        Endpoint::Address(AddressUse::Shared | AddressUse::Host) => address.v4().map(Ipv4Addr::from),
        _ => None,
    });
    hosts.collect()
}
