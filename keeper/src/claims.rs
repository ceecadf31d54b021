//! What an instance has to itself in its network namespace: its interfaces, its addresses, and the name of its
//! pseudo-interface.
//!
//! Two instances on one interface would take each other's queues or packets, and two with one address each other's
//! clients. What another living instance has is in its memory (`shunt_instances`). A lock for each interface and device,
//! which ends with the keeper that holds it, decides between keepers that start at the same time.

use std::path::PathBuf;

use nix::net::if_::if_nametoindex;
use shunt_config::Config;
use shunt_instances::{Other, TakenAddress};
use shunt_process::{Lock, claim_lock};
use shunt_shmlayout::header::own_network_namespace;

use super::KeeperError;

/// Held until the value is dropped.
pub(super) struct Claims {
    _locks: Vec<Lock>,
}

/// A thing that one instance at a time can have. Addresses are locked by control, which changes them at a reload
/// (`shunt_instances::AddressLocks`): of two keepers that start at the same time and see nothing of each other yet, one has a
/// control that is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Thing {
    Interface { name: String, index: u32 },
    Device(String),
}

impl Claims {
    /// Takes all that the configuration names, or nothing. An interface that doesn't exist is for the checks to tell.
    pub fn take(config: &Config) -> Result<Claims, KeeperError> {
        let namespace = own_network_namespace().map_err(super::system_error("which network namespace this is"))?;
        let things = things(config);
        let locks: Vec<(PathBuf, &Thing)> = things.iter().map(|thing| (thing.lock(namespace), thing)).collect();
        Self::take_unless(config, &locks, || used(config, &things))
    }

    /// `used` is asked before any lock is taken: another instance's keeper that is being started again must find its own
    /// free. It is asked again once all are held: a keeper that was killed in between has given its locks back, while
    /// its switchers still have the queues.
    fn take_unless(
        config: &Config,
        locks: &[(PathBuf, &Thing)],
        mut used: impl FnMut() -> Vec<String>,
    ) -> Result<Claims, KeeperError> {
        let mut refuse = || match used() {
            problems if problems.is_empty() => Ok(()),
            problems => Err(KeeperError::Problems(problems)),
        };
        refuse()?;
        let mut held = Vec::new();
        for (path, thing) in locks {
            let lock = Lock::claim(path, &config.instance)?;
            held.push(lock.map_err(|holder| KeeperError::Problems(vec![thing.refusal(&holder)]))?);
        }
        refuse()?;
        Ok(Claims { _locks: held })
    }
}

fn things(config: &Config) -> Vec<Thing> {
    let interface =
        |name: &String| Some(Thing::Interface { name: name.clone(), index: if_nametoindex(name.as_str()).ok()? });
    let interfaces = config.interfaces.iter().filter_map(|it| interface(&it.name));
    interfaces.chain(config.host.iter().map(|host| Thing::Device(host.device.clone()))).collect()
}

/// What living instances have of these things and of the addresses, as refusals.
fn used(config: &Config, things: &[Thing]) -> Vec<String> {
    let things = Other::living(&config.instance).flat_map(|other| {
        let taken = things.iter().filter(|thing| thing.is_used(&other));
        taken.map(|thing| thing.refusal(&format!("instance \"{}\"", other.instance))).collect::<Vec<_>>()
    });
    let addresses = TakenAddress::find(config, |_| false);
    things.chain(addresses.iter().map(|taken| taken.problem(config).to_string())).collect()
}

impl Thing {
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
    fn what_becomes_used_while_the_locks_are_taken_is_refused_and_they_are_given_back() {
        let text = "instance = \"claims-test\"\n[switchers]\ncount = 1\n[[interface]]\nname = \"eth0\"\n";
        let config = Config::parse(text, "shunt.toml").unwrap();
        let (folder, device) = (tempfile::tempdir().unwrap(), Thing::Device("shunt0".to_owned()));
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
