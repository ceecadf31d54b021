//! Keeping the XDP maps in step with the configuration table and the box's own addresses.
//!
//! Control announces a coming epoch in `prepared`; the maps then get the addresses of both generations, and `owned`
//! answers, so that no packet of a new service or backend is missed when control flips, and none of an old one either.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use shunt_shmlayout::address::{Address, PortBe};
use shunt_shmlayout::config_table::Generation;
use shunt_shmlayout::endpoints::Endpoint;
use shunt_shmlayout::regions::{ControlRegion, KeeperRegion};

use super::regions::Regions;
use super::system::local_addresses;
use crate::bpf::{Redirect, RedirectError};

/// How often the box's own addresses are asked for.
const LOCAL_INTERVAL: Duration = Duration::from_millis(250);
/// After a map refused something, the next try is this much later.
const RETRY: Duration = Duration::from_secs(1);

/// What of the generations is in the maps.
pub(super) struct Follower {
    control: ControlRegion,
    keeper: KeeperRegion,
    redirects: Vec<Redirect>,
    /// The `prepared` word whose addresses the maps hold; `None` before the first turn.
    owned: Option<u64>,
    local: BTreeSet<Address>,
    next_local: Instant,
    not_before: Instant,
}

impl Follower {
    /// Nothing is in step before the first turn.
    pub fn new(regions: &Regions, redirects: Vec<Redirect>) -> Follower {
        let now = Instant::now();
        Follower {
            control: regions.control,
            keeper: regions.keeper,
            redirects,
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
        self.keeper.head.heartbeat_ms.set(monotonic_ms());
    }

    /// Puts the addresses of both generations into the maps. Both stand still: control waits for `owned`.
    fn own(&mut self) -> Result<(), RedirectError> {
        let (services, backends) = addresses(&self.control.generations);
        for redirect in &mut self.redirects {
            redirect.set_backends(backends.iter().copied())?;
            redirect.set_services(services.iter().copied())?;
        }
        Ok(())
    }

    fn follow_local(&mut self) {
        let local = match local_addresses() {
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

    /// Takes the programs off the interfaces.
    pub fn detach(self) {
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

fn monotonic_ms() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| Duration::from(now).as_millis() as u64)
}
