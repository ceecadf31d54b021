//! The pseudo-interface (patent Fig. 8): a TUN device that carries the host's addresses, so that the box's own programs use
//! it like an ordinary interface.
//!
//! The keeper owns it and keeps a duplicate of the device and of the doorbell's descriptor: both outlive the interface
//! daemon. A restarted keeper retrieves them from the living daemon or a living switcher.
//!
//! ```text
//!  address of the host, or of a service of the host    /32 on the device
//!  rule   from ADDRESS                 table T         replies leave by the device, whatever the main table says
//!  rule   from 0.0.0.0 to HOST.ROUTES  table T         programs that chose no source reach these through the switchers
//!  table T (its own, 7000 + index of the device)       default by the device
//! ```
//!
//! The main table, which control reads, stays as it is.

mod memory;
mod netlink;
mod tun;

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::net::if_::if_nametoindex;
use nix::sys::eventfd::{EfdFlags, EventFd};
use shunt_config::{Config, Host};
use shunt_shmlayout::access::{Access, Writer};
use shunt_shmlayout::regions::KeeperRegion;

use super::check::Facts;
use super::regions::Regions;
use super::system::open_living;
use super::{KeeperError, system_error};
pub(super) use memory::HostRegions;
use netlink::{FIRST_TABLE, Netlink, Rule};
use shunt_netlink::addresses_of;
use shunt_protocol::handover::ifdaemon::DEVICE_DESCRIPTOR;
use shunt_protocol::handover::{WAKE_DESCRIPTOR, take_descriptor};
use tun::{Tun, TunError};

/// Before the main table (32766).
const PRIORITY_FROM: u32 = 5300;
const PRIORITY_TO: u32 = 5301;

impl From<TunError> for KeeperError {
    fn from(error: TunError) -> Self {
        KeeperError::Problems(vec![error.to_string()])
    }
}

/// The device, and the resources that belong to it.
pub(super) struct PseudoInterface {
    host: Host,
    index: u32,
    mtu: u32,
    tun: Tun,
    wake: OwnedFd,
    netlink: Netlink,
    /// Reports whether the daemon is alive: the rules stay while it has the device.
    keeper: KeeperRegion<Writer>,
}

impl PseudoInterface {
    /// Retrieves the device from a living process, or creates it; then sets it up with the host's addresses. `None` if none
    /// is configured.
    pub fn open(config: &Config, facts: &Facts, regions: &Regions) -> Result<Option<PseudoInterface>, KeeperError> {
        let Some(host) = config.host.clone() else {
            remove_orphans();
            return Ok(None);
        };
        let taken = take_device(&host, &regions.keeper)?;
        let tun = taken.map_or_else(|| Tun::create(&host.device, host.offloads), Ok)?;
        let wake = take_wake(regions)?;
        let index = if_nametoindex(host.device.as_str()).map_err(system_error("index of host.device"))?;
        let netlink = Netlink::open().map_err(system_error("netlink"))?;
        let mtu = mtu(&host, facts);
        let mut pseudo = PseudoInterface { host, index, mtu, tun, wake, netlink, keeper: regions.keeper };
        pseudo.prepare().map_err(system_error("setting up the pseudo-interface (netlink)"))?;
        regions.keeper.head.device_index.set(index.into());
        regions.keeper.head.set_device_name(&pseudo.host.device);
        regions.keeper.head.device_offloads.set(pseudo.tun.has_offloads.into());
        let offloads = if pseudo.tun.has_offloads { "with" } else { "without" };
        log::info!("pseudo-interface {}: MTU {mtu}, {offloads} offloads", pseudo.host.device);
        Ok(Some(pseudo))
    }

    fn prepare(&mut self) -> io::Result<()> {
        // No link-local address: IPv6 is disabled, so its packets would be dropped (addrconf.c, IN6_ADDR_GEN_MODE_NONE).
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{}/addr_gen_mode", self.host.device), "1");
        self.netlink.set_up(self.index, self.mtu)?;
        // A predecessor's addresses stay until the configuration table is read.
        let there = addresses_of(&self.host.device)?;
        self.set_addresses(there)
    }

    /// Assigns the host's addresses and these (the addresses of host services), and removes all others from the device.
    pub fn set_addresses(&mut self, services: BTreeSet<Ipv4Addr>) -> io::Result<()> {
        let wanted: BTreeSet<_> = self.host.addresses.iter().copied().chain(services).collect();
        let (there, rules, table) = (addresses_of(&self.host.device)?, self.rules(&wanted), self.table());
        let present: BTreeSet<Rule> = self.netlink.rules()?.into_iter().collect();
        for rule in rules.difference(&present) {
            self.netlink.add_rule(rule)?;
        }
        for address in wanted.difference(&there) {
            self.netlink.add_address(self.index, *address)?;
        }
        // After the addresses, because the route names one of them.
        self.netlink.set_default_route(self.index, table, self.host.addresses.first().copied())?;
        for address in there.difference(&wanted) {
            self.netlink.remove_address(self.index, *address)?;
        }
        for rule in present.difference(&rules).filter(|rule| rule.table == table) {
            self.netlink.remove_rule(rule)?;
        }
        self.netlink.remove_orphans()
    }

    fn rules(&self, addresses: &BTreeSet<Ipv4Addr>) -> BTreeSet<Rule> {
        let table = self.table();
        let any = (Ipv4Addr::UNSPECIFIED, 0);
        let unbound = (Ipv4Addr::UNSPECIFIED, 32);
        let from = addresses.iter().map(|address| Rule {
            source: (*address, 32),
            destination: any,
            priority: PRIORITY_FROM,
            table,
        });
        let to = self.host.routes.iter().map(|prefix| Rule {
            source: unbound,
            destination: (prefix.address, prefix.length),
            priority: PRIORITY_TO,
            table,
        });
        from.chain(to).collect()
    }

    fn table(&self) -> u32 {
        FIRST_TABLE + self.index
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.host.device
    }

    /// Largest IP packet, in bytes.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Whether each packet has a vnet header.
    pub fn has_offloads(&self) -> bool {
        self.tun.has_offloads
    }

    /// The eventfd that wakes the daemon.
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// The device.
    pub fn device(&self) -> BorrowedFd<'_> {
        self.tun.descriptor.as_fd()
    }
}

impl Drop for PseudoInterface {
    /// Removes the rules only if no daemon lives: the device persists until its last descriptor is closed.
    fn drop(&mut self) {
        if self.keeper.living_daemon().is_some() {
            return;
        }
        let table = self.table();
        let removed = self.netlink.rules().and_then(|rules| {
            rules.iter().filter(|rule| rule.table == table).try_for_each(|rule| self.netlink.remove_rule(rule))
        });
        if let Err(error) = removed {
            log::warn!("removing the rules of {}: {error}", self.host.device);
        }
    }
}

/// Removes the rules that a killed instance with a pseudo-interface left.
fn remove_orphans() {
    if let Err(error) = Netlink::open().and_then(|mut netlink| netlink.remove_orphans()) {
        log::warn!("removing the policy rules of removed pseudo-interfaces: {error}");
    }
}

/// The configured MTU, or that of the smallest interface.
fn mtu(host: &Host, facts: &Facts) -> u32 {
    let smallest = facts.interfaces.iter().map(|interface| interface.mtu).min();
    host.mtu.map(u32::from).or(smallest).unwrap_or(1500)
}

fn take_device<A: Access>(host: &Host, keeper: &KeeperRegion<A>) -> Result<Option<Tun>, KeeperError> {
    let Some(pid) = keeper.living_daemon() else { return Ok(None) };
    let process = open_living(pid, || keeper.living_daemon() == Some(pid))?;
    let descriptor =
        take_descriptor(process.as_fd(), DEVICE_DESCRIPTOR).map_err(system_error("pidfd_getfd (device)"))?;
    let (tun, name) = match Tun::adopt(descriptor) {
        // The daemon notices the removal and ends.
        Err(error) if error.raw_os_error() == Some(libc::EBADFD) => {
            log::warn!("device {} of shunt-ifdaemon, pid {pid}, was removed: making it anew", host.device);
            return Ok(None);
        }
        adopted => adopted.map_err(system_error("TUNGETIFF"))?,
    };
    if name != host.device {
        return Err(KeeperError::Changed { what: format!("host.device (it was {name})") });
    }
    log::info!("took device {name} back from shunt-ifdaemon, pid {pid}");
    Ok(Some(tun))
}

/// Retrieves the eventfd from a living process, because all must share one.
fn take_wake(regions: &Regions) -> Result<OwnedFd, KeeperError> {
    let living = || regions.keeper.living_daemon().into_iter().chain(regions.living().map(|(_, pid)| pid));
    let first = living().next();
    match first {
        Some(pid) => {
            let process = open_living(pid, || living().any(|other| other == pid))?;
            take_descriptor(process.as_fd(), WAKE_DESCRIPTOR).map_err(system_error("pidfd_getfd (wake-up)"))
        }
        None => {
            let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
            Ok(event.map_err(system_error("eventfd"))?.into())
        }
    }
}
