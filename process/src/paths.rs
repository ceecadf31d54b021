//! The instance's name, and the paths and regions that follow from it, the same for every process of the instance.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

const RUNTIME_ROOT: &str = "/run/shunt";

/// Name of one instance: 1 to 32 of `a`-`z`, `0`-`9` and `-`, so that it can stand in paths and region names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance(String);

/// A name that no instance can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not an instance name; write 1 to 32 of a-z, 0-9 and -")]
pub struct InstanceError;

impl Instance {
    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Instance {
    fn default() -> Self {
        Self("shunt".to_owned())
    }
}

impl FromStr for Instance {
    type Err = InstanceError;

    fn from_str(name: &str) -> Result<Self, InstanceError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=32).contains(&name.len()) && name.bytes().all(allowed) {
            Ok(Self(name.to_owned()))
        } else {
            Err(InstanceError)
        }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Directory of the instance's sockets, locks and pinned links (mode 0700).
pub fn runtime_directory(instance: &Instance) -> PathBuf {
    Path::new(RUNTIME_ROOT).join(instance.as_str())
}

/// Where the keeper hands descriptors over (SOCK_SEQPACKET).
pub fn keeper_socket(instance: &Instance) -> PathBuf {
    runtime_directory(instance).join("keeper.sock")
}

/// Where control takes orders (SOCK_STREAM, one JSON object a line).
pub fn control_socket(instance: &Instance) -> PathBuf {
    runtime_directory(instance).join("control.sock")
}

/// The configuration that control accepted last, for a control that starts while the file on disk is bad.
pub fn accepted_configuration(instance: &Instance) -> PathBuf {
    runtime_directory(instance).join("accepted.toml")
}

/// What control's health checks last found, for a control that starts again.
pub fn health_notes(instance: &Instance) -> PathBuf {
    runtime_directory(instance).join("health.json")
}

/// What a running keeper holds locked, so that a second one stops.
pub fn keeper_lock(instance: &Instance) -> PathBuf {
    runtime_directory(instance).join("keeper.lock")
}

/// What a running control holds locked, so that a second one stops.
pub fn control_lock(instance: &Instance) -> PathBuf {
    runtime_directory(instance).join("control.lock")
}

/// What a running interface daemon holds locked, so that a second one stops.
pub fn ifdaemon_lock(instance: &Instance) -> PathBuf {
    runtime_directory(instance).join("ifdaemon.lock")
}

/// What a running supervisor (deploy/shunt-supervisor) holds open and locked, so that a second one stops.
pub fn supervisor_lock(instance: &Instance) -> PathBuf {
    runtime_directory(instance).join("supervisor.lock")
}

/// Where the supervisor writes its process id.
pub fn supervisor_pid(instance: &Instance) -> PathBuf {
    runtime_directory(instance).join("pids/supervisor")
}

/// What a running keeper holds locked, so that no other instance uses the same thing: `kind` is `interface` or `device`,
/// `namespace` the network namespace's inode, in which `name` is unique. No instance can be called so.
pub fn claim_lock(kind: &str, namespace: u64, name: &str) -> PathBuf {
    Path::new(RUNTIME_ROOT).join(format!("{kind}.{namespace}.{name}.lock"))
}

/// Every instance that has a directory, whether it runs or not.
pub fn instances() -> Vec<Instance> {
    instances_in(Path::new(RUNTIME_ROOT))
}

fn instances_in(root: &Path) -> Vec<Instance> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut names: Vec<Instance> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    names.sort();
    names
}

/// Where the keeper mounts its bpffs and pins links and maps.
pub fn bpf_directory(instance: &Instance) -> PathBuf {
    runtime_directory(instance).join("bpf")
}

/// Name of a shared-memory region, as `/shunt.NAME.control`.
pub fn region_name(instance: &Instance, region: &str) -> String {
    format!("/shunt.{instance}.{region}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_leave_the_directory_is_no_instance() {
        for name in ["", "..", "a/b", "Web", "a.b", "a b", "a\0", &"x".repeat(33)] {
            assert_eq!(name.parse::<Instance>(), Err(InstanceError), "{name:?}");
        }
        assert_eq!("x".repeat(32).parse::<Instance>().map(|name| name.to_string()), Ok("x".repeat(32)));
    }

    #[test]
    fn a_claim_is_no_instance() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("lab")).unwrap();
        let claim = claim_lock("interface", 4_026_531_840, "3");
        assert_eq!(claim, Path::new("/run/shunt/interface.4026531840.3.lock"));
        std::fs::write(root.path().join(claim.file_name().unwrap()), "").unwrap();
        assert_eq!(instances_in(root.path()).iter().map(Instance::as_str).collect::<Vec<_>>(), ["lab"]);
    }

    #[test]
    fn paths_follow_from_the_name() {
        let instance: Instance = "lab-2".parse().expect("a valid name");
        assert_eq!(runtime_directory(&instance), Path::new("/run/shunt/lab-2"));
        assert_eq!(keeper_socket(&instance), Path::new("/run/shunt/lab-2/keeper.sock"));
        assert_eq!(control_socket(&instance), Path::new("/run/shunt/lab-2/control.sock"));
        assert_eq!(keeper_lock(&instance), Path::new("/run/shunt/lab-2/keeper.lock"));
        assert_eq!(control_lock(&instance), Path::new("/run/shunt/lab-2/control.lock"));
        assert_eq!(ifdaemon_lock(&instance), Path::new("/run/shunt/lab-2/ifdaemon.lock"));
        assert_eq!(bpf_directory(&instance), Path::new("/run/shunt/lab-2/bpf"));
        assert_eq!(region_name(&instance, "control"), "/shunt.lab-2.control");
    }
}
