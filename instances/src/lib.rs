//! Other living instances in this network namespace, and the resources that each has exclusively: interfaces, addresses,
//! the name of a pseudo-interface.
//!
//! `shapes` computes the size of an instance's shared memory, because the keeper creates it and the doctor counts it.
//!
//! The keeper checks them before it claims anything, control before it uses a configuration. An instance's resources are in
//! its shared memory, even while its keeper or control is dead. Memory of another version is ignored.

pub mod accepted;
mod address_locks;
mod own;
mod processes;
mod shapes;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use accepted::instance_of;
pub use address_locks::AddressLocks;
pub use own::{addresses_beside, interfaces_beside, local_addresses, own_addresses};
pub use processes::{Process, living_processes, present};
pub use shapes::Shapes;
use shunt_config::{Config, ConfigError, Problem};
use shunt_process::{Instance, accepted_configuration, inode, instances, region_name, supervisor_lock, supervisor_pid};
use shunt_shmlayout::access::Reader;
use shunt_shmlayout::address::Address;
use shunt_shmlayout::header::network_namespace;
use shunt_shmlayout::regions::{ControlRegion, KeeperRegion, SwitcherRecord, Typed};

/// Another living instance.
pub struct Other {
    /// Name of the instance.
    pub instance: Instance,
    keeper: KeeperRegion,
    control: Option<ControlRegion>,
}

impl Other {
    /// All other living instances.
    pub fn living(own: &Instance) -> impl Iterator<Item = Self> {
        let others = instances().into_iter().filter(move |other| other != own);
        others.filter_map(Self::attach).filter(|other| other.lives_here() || other.is_supervised_here())
    }

    fn attach(instance: Instance) -> Option<Self> {
        let (keeper, _) = KeeperRegion::<Reader>::attach(&region_name(&instance, "keeper")).ok()?;
        let control = ControlRegion::<Reader>::attach(&region_name(&instance, "control")).ok();
        Some(Self { keeper, control: control.map(|(control, _)| control), instance })
    }

    /// Whether a process of it lives. Control alone counts, because its supervisor restarts the others.
    fn lives_here(&self) -> bool {
        self.keeper.lives_here() || self.control.is_some_and(|control| control.lives_here())
    }

    /// Whether its supervisor lives, even if no other process does: it restarts them.
    fn is_supervised_here(&self) -> bool {
        supervises_here(&supervisor_pid(&self.instance), &supervisor_lock(&self.instance))
    }

    /// Whether it uses the interface with this index.
    pub fn has_interface(&self, index: u32) -> bool {
        self.keeper.interfaces().any(|(_, record)| record.ifindex == index)
    }

    /// The CPUs of its living switchers.
    fn cpus(&self) -> Vec<u32> {
        let switchers = self.keeper.switchers.iter().map(|record| record.load());
        switchers.filter(SwitcherRecord::is_alive).map(|record| record.cpu).collect()
    }

    /// The name of its pseudo-interface.
    pub fn device(&self) -> Option<String> {
        (self.keeper.head.device_index.get() != 0).then(|| self.keeper.head.device_name())
    }

    /// Whether its active configuration contains an address, for a service or the pseudo-interface.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.control.is_some_and(|control| control.has_address(&Address::from(address)))
    }
}

/// The CPUs that living switchers of other instances are pinned to, in any network namespace.
pub fn pinned_cpus(own: &Instance) -> Vec<(u32, Instance)> {
    let others = instances().into_iter().filter(|other| other != own).filter_map(Other::attach);
    let pinned = others.flat_map(|other| other.cpus().into_iter().map(move |cpu| (cpu, other.instance.clone())));
    pinned.collect()
}

/// The configuration accepted last by the running instance that was started with the file at `path`, or why it cannot be
/// used. The file on disk may be invalid by now, or meant for another start.
pub fn running_configuration(path: &Path) -> Option<Result<Config, ConfigError>> {
    let instance = instance_of(&std::path::absolute(path).ok()?)?;
    runs(&instance).then(|| Config::load(&accepted_configuration(&instance)))
}

/// Whether a process of this instance lives in this network namespace.
pub fn runs(instance: &Instance) -> bool {
    Other::attach(instance.clone()).is_some_and(|found| found.lives_here())
}

/// Whether the process whose id is in the file `pid` has the lock's file open, which only a supervisor keeps open, and is
/// in this network namespace. Trying the lock itself could make a starting supervisor fail.
fn supervises_here(pid: &Path, lock: &Path) -> bool {
    let id = std::fs::read_to_string(pid).ok().and_then(|text| text.trim().parse::<u32>().ok());
    let Some((id, lock)) = id.zip(inode(std::fs::metadata(lock))) else { return false };
    let files = std::fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
    let holds = files.map(|file| inode(std::fs::metadata(file.path()))).any(|open| open == Some(lock));
    holds && network_namespace(id) == network_namespace(std::process::id())
}

/// An address that another instance has. Two instances that answer ARP for one address, even on different interfaces, take
/// each other's clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("address {address} is {}: stop that instance, or choose another address", holder(.instance))]
pub struct TakenAddress {
    address: IpAddr,
    /// `None` if it is claiming the address right now and has not published it yet.
    instance: Option<Instance>,
}

impl TakenAddress {
    /// Every address of a configuration that another instance has, except those for which `is_ours` returns true.
    pub fn find(config: &Config, is_ours: impl Fn(IpAddr) -> bool) -> Vec<Self> {
        let wanted: Vec<IpAddr> = addresses(config).into_iter().filter(|address| !is_ours(*address)).collect();
        let others = Other::living(&config.instance).filter(|_| !wanted.is_empty());
        let taken = others.flat_map(|other| {
            let taken = wanted.iter().filter(|address| other.has_address(**address));
            let taken = taken.map(|address| Self { address: *address, instance: Some(other.instance.clone()) });
            taken.collect::<Vec<_>>()
        });
        taken.collect()
    }

    /// The problem, with file, line and field in the configuration.
    pub fn problem(&self, config: &Config) -> Problem {
        let service = config.services.iter().find(|service| service.address.ip() == self.address);
        let field = service.map(|service| format!("service.{}.address", service.name));
        config.source.problem(field.unwrap_or_else(|| "host.addresses".to_owned()), self.to_string())
    }
}

fn holder(instance: &Option<Instance>) -> String {
    match instance {
        Some(instance) => format!("served by instance \"{instance}\" of this machine"),
        None => "being taken by another instance of this machine".to_owned(),
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
    use shunt_shmlayout::header::start_time;
    use shunt_shmlayout::regions::{ControlShape, KeeperShape, Whole};

    #[test]
    fn an_instance_lives_while_its_control_alone_does() {
        let keeper = KeeperShape { interfaces: 1, switchers: 1, ports: 1, reserved: [0; 5] };
        let (keeper, control) = (KeeperRegion::anonymous(&keeper), ControlShape::new(1, 1, 1, 1, 1));
        let control = ControlRegion::anonymous(&control).unwrap();
        let other =
            Other { instance: Instance::default(), keeper: keeper.unwrap().lend(), control: Some(control.lend()) };
        assert!(!other.lives_here());
        let pid = std::process::id();
        control.head.pid.set(pid.into());
        assert!(!other.lives_here(), "an earlier process with this id");
        control.head.start_time.set(start_time(pid).unwrap());
        assert!(other.lives_here());
    }

    #[test]
    fn the_cpus_of_living_switchers_are_told() {
        let shape = KeeperShape { interfaces: 1, switchers: 3, ports: 1, reserved: [0; 5] };
        let keeper = KeeperRegion::anonymous(&shape).unwrap();
        let pid = std::process::id();
        let start_time = start_time(pid).unwrap();
        let record = SwitcherRecord { pid, start_time, cpu: 3, ..SwitcherRecord::default() };
        keeper.switchers[0].store(&SwitcherRecord { cpu: 1, pid: 0, ..record });
        keeper.switchers[1].store(&record);
        keeper.switchers[2].store(&SwitcherRecord { cpu: 2, start_time: start_time - 1, ..record });
        let other = Other { instance: Instance::default(), keeper: keeper.lend(), control: None };
        assert_eq!(other.cpus(), [3]);
    }

    #[test]
    fn a_supervisor_lives_as_long_as_it_holds_its_lock_open() {
        let folder = tempfile::tempdir().unwrap();
        let [pid, lock] = ["pid", "lock"].map(|name| folder.path().join(name));
        assert!(!supervises_here(&pid, &lock), "there is none");
        std::fs::write(&pid, format!("{}\n", std::process::id())).unwrap();
        let held = std::fs::File::create(&lock).unwrap();
        assert!(supervises_here(&pid, &lock));
        drop(held);
        assert!(!supervises_here(&pid, &lock), "another process has the id");
        std::fs::write(&pid, "nonsense").unwrap();
        assert!(!supervises_here(&pid, &lock));
    }

    #[test]
    fn a_taken_address_is_told_where_it_stands() {
        let text = "[switchers]\ncount = 1\n[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"web\"\n\
            address = \"198.18.0.1:80\"\nprotocol = \"tcp\"\ntarget = \"host\"\n[host]\naddresses = [\"198.18.0.101\"]\n";
        let config = Config::parse(text, "shunt.toml").unwrap();
        let [service, host] = <[IpAddr; 2]>::try_from(addresses(&config).into_iter().collect::<Vec<_>>()).unwrap();
        for (address, place) in
            [(service, "shunt.toml:7: service.web.address: "), (host, "shunt.toml:11: host.addresses: ")]
        {
            let taken = TakenAddress { address, instance: Some("lab".parse().unwrap()) };
            let said = format!("{place}address {address} is served by instance \"lab\" of this machine: stop that");
            let problem = taken.problem(&config).to_string();
            assert!(problem.starts_with(&said), "{problem}");
        }
    }
}
