//! The resources that an instance needs exclusively in its network namespace: its interfaces, its addresses, and the name
//! of its pseudo-interface.
//!
//! Two instances on one interface would take each other's queues or packets; two with one address, each other's clients.
//! The resources of other living instances are in their shared memory (`shunt_instances`). A lock per interface and device,
//! released when its keeper ends, decides between keepers that start concurrently.

use std::path::PathBuf;

use nix::net::if_::if_nametoindex;
use shunt_config::Config;
use shunt_instances::{Other, TakenAddress};
use shunt_process::{Lock, claim_lock};
use shunt_shmlayout::header::own_network_namespace;

use super::KeeperError;

/// The locks, held until the value is dropped.
pub(super) struct Claims {
    _locks: Vec<Lock>,
}

/// A resource that only one instance at a time can have. Control locks addresses, because they change at a reload
/// (`shunt_instances::AddressLocks`): of two keepers that start concurrently and do not yet see each other, one gets a
/// control that refuses to start.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Resource {
    Interface { name: String, index: u32 },
    Device(String),
}

impl Claims {
    /// Claims every resource that the configuration names, or none. The checks report an interface that does not exist.
    pub fn take(config: &Config) -> Result<Claims, KeeperError> {
        let namespace = own_network_namespace().map_err(super::system_error("find the network namespace"))?;
        let resources = resources(config);
        let locks: Vec<(PathBuf, &Resource)> =
            resources.iter().map(|resource| (resource.lock(namespace), resource)).collect();
        Self::take_unless(config, &locks, || used(config, &resources))
    }

    /// `used` is called before any lock is taken, because a restarting keeper of another instance must find its own locks
    /// free. It is called again once all are held: a keeper killed in between has released its locks, while its switchers
    /// still have the queues.
    fn take_unless(
        config: &Config,
        locks: &[(PathBuf, &Resource)],
        mut used: impl FnMut() -> Vec<String>,
    ) -> Result<Claims, KeeperError> {
        let mut refuse = || match used() {
            problems if problems.is_empty() => Ok(()),
            problems => Err(KeeperError::Problems(problems)),
        };
        refuse()?;
        let mut held = Vec::new();
        for (path, resource) in locks {
            let lock = Lock::claim(path, &config.instance)?;
            held.push(lock.map_err(|holder| KeeperError::Problems(vec![resource.refusal(&holder)]))?);
        }
        refuse()?;
        Ok(Claims { _locks: held })
    }
}

fn resources(config: &Config) -> Vec<Resource> {
    let interface =
        |name: &String| Some(Resource::Interface { name: name.clone(), index: if_nametoindex(name.as_str()).ok()? });
    let interfaces = config.interfaces.iter().filter_map(|it| interface(&it.name));
    interfaces.chain(config.host.iter().map(|host| Resource::Device(host.device.clone()))).collect()
}

/// The resources and addresses that living instances already use, as problems.
fn used(config: &Config, resources: &[Resource]) -> Vec<String> {
    let resources = Other::living(&config.instance).flat_map(|other| {
        let taken = resources.iter().filter(|resource| resource.is_used(&other));
        taken.map(|resource| resource.refusal(&format!("instance \"{}\"", other.instance))).collect::<Vec<_>>()
    });
    let addresses = TakenAddress::find(config, |_| false);
    resources.chain(addresses.iter().map(|taken| taken.problem(config).to_string())).collect()
}

impl Resource {
    fn is_used(&self, other: &Other) -> bool {
        match self {
            Self::Interface { index, .. } => other.has_interface(*index),
            Self::Device(name) => other.device().as_ref() == Some(name),
        }
    }

    fn lock(&self, namespace: u64) -> PathBuf {
        match self {
            Self::Interface { index, .. } => claim_lock("interface", namespace, &index.to_string()),
            Self::Device(name) => claim_lock("device", namespace, name),
        }
    }

    fn refusal(&self, holder: &str) -> String {
        match self {
            Self::Interface { name, .. } => format!(
                "interface {name} is used by {holder}: stop that instance, or name another interface; one instance can \
                 have all the services of an interface"
            ),
            Self::Device(name) => {
                format!("host.device: {name} is the device of {holder}: stop that instance, or choose another name")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_used_while_the_locks_are_taken_is_refused_and_the_locks_are_released() {
        let text = "instance = \"claims-test\"\n[switchers]\ncount = 1\n[[interface]]\nname = \"eth0\"\n";
        let config = Config::parse(text, "shunt.toml").unwrap();
        let (folder, device) = (tempfile::tempdir().unwrap(), Resource::Device("shunt0".to_owned()));
        let path = folder.path().join("device.lock");
        let locks = [(path.clone(), &device)];
        for answers in [vec![vec!["a"]], vec![vec![], vec!["b"]]] {
            let mut answers = answers.into_iter();
            let used = || answers.next().unwrap_or_default().into_iter().map(str::to_owned).collect();
            let refused = Claims::take_unless(&config, &locks, used).map(drop);
            assert!(matches!(refused, Err(KeeperError::Problems(_))), "{refused:?}");
            assert!(Lock::claim(&path, &config.instance).unwrap().is_ok(), "still held");
        }
        let held = Claims::take_unless(&config, &locks, Vec::new).unwrap();
        assert!(Lock::claim(&path, &config.instance).unwrap().is_err(), "not held");
        drop(held);
    }
}
