//! The instance's name and the paths and region names derived from it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

const RUNTIME_ROOT: &str = "/run/shunt";

/// Name of an instance: 1 to 32 of `a`-`z`, `0`-`9` and `-`, safe in paths and region names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance(String);

/// An invalid instance name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not an instance name; write 1 to 32 of a-z, 0-9 and -")]
pub struct InstanceError;

impl Instance {
    /// The name as text.
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

/// Socket over which the keeper hands out descriptors (SOCK_SEQPACKET).
pub fn keeper_socket(instance: &Instance) -> PathBuf {
    runtime_directory(instance).join("keeper.sock")
}

/// Control's command socket (SOCK_STREAM, one JSON object per line).
pub fn control_socket(instance: &Instance) -> PathBuf {
    runtime_directory(instance).join("control.sock")
}

/// The configuration that control last accepted, used when control starts and the file on disk is invalid.
pub fn accepted_configuration(instance: &Instance) -> PathBuf {
    runtime_directory(instance).join("accepted.toml")
}

/// The last results of control's health checks, read by a restarted control.
pub fn health_notes(instance: &Instance) -> PathBuf {
    runtime_directory(instance).join("health.json")
}

/// Lock file held by the running keeper.
pub fn keeper_lock(instance: &Instance) -> PathBuf {
    runtime_directory(instance).join("keeper.lock")
}

/// Lock file held by the running control.
pub fn control_lock(instance: &Instance) -> PathBuf {
    runtime_directory(instance).join("control.lock")
}

/// Lock file held by the running interface daemon.
pub fn ifdaemon_lock(instance: &Instance) -> PathBuf {
    runtime_directory(instance).join("ifdaemon.lock")
}

/// Lock file held by the running supervisor (deploy/shunt-supervisor).
pub fn supervisor_lock(instance: &Instance) -> PathBuf {
    runtime_directory(instance).join("supervisor.lock")
}

/// File with the supervisor's process id.
pub fn supervisor_pid(instance: &Instance) -> PathBuf {
    runtime_directory(instance).join("pids/supervisor")
}

/// Lock file by which a running keeper claims a device for its instance. `kind` is `interface` or `device`; `namespace` is
/// the inode of the network namespace in which `name` is unique. The file name is not a valid instance name.
pub fn claim_lock(kind: &str, namespace: u64, name: &str) -> PathBuf {
    Path::new(RUNTIME_ROOT).join(format!("{kind}.{namespace}.{name}.lock"))
}

/// Every instance that has a runtime directory, running or not.
pub fn instances() -> Vec<Instance> {
    instances_in(Path::new(RUNTIME_ROOT))
}

fn instances_in(root: &Path) -> Vec<Instance> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut names: Vec<Instance> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    names.sort();
    names
}

/// Directory where the keeper mounts its bpffs and pins links and maps.
pub fn bpf_directory(instance: &Instance) -> PathBuf {
    runtime_directory(instance).join("bpf")
}

/// Name of a shared-memory region: `/shunt.INSTANCE.REGION`.
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
