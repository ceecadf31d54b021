//! Checks that a keeper that takes over a running instance sees its predecessor's pins. A bpffs is mounted in one mount
//! namespace: `ip netns exec` and many systemd settings create another, in which the directory exists but is empty.

use std::path::Path;

use shunt_shmlayout::regions::PortKind;

use super::KeeperError;
use super::regions::Regions;
use crate::bpf::is_bpffs;

/// Fails if living switchers have AF_XDP ports whose programs are not visible: no second program can be attached beside
/// them, and without theirs no packet arrives.
pub(super) fn require(regions: &Regions, directory: &Path) -> Result<(), KeeperError> {
    let has_xdp = regions.keeper.ports().any(|port| port.kind() == Some(PortKind::AfXdp));
    let living: Vec<u32> = regions.living().map(|(_, pid)| pid).collect();
    if !has_xdp || living.is_empty() || is_bpffs(directory).map_err(KeeperError::Mount)? {
        return Ok(());
    }
    let sees = |pid: &&u32| is_bpffs(&seen_by(**pid, directory)).unwrap_or(false);
    Err(KeeperError::Problems(vec![refusal(directory, living[0], living.iter().find(sees).copied())]))
}

/// The same directory in the mount namespace of a process.
fn seen_by(pid: u32, path: &Path) -> std::path::PathBuf {
    Path::new("/proc").join(pid.to_string()).join("root").join(path.strip_prefix("/").unwrap_or(path))
}

fn refusal(directory: &Path, living: u32, sees: Option<u32>) -> String {
    let directory = directory.display();
    let way_out = match sees {
        Some(pid) => format!("start it in that of pid {pid}: nsenter -t {pid} -m shunt-keeper ..."),
        None => "start it where the first keeper was started, which no switcher shows; or stop the switchers, \
                 and start the instance anew"
            .to_owned(),
    };
    format!(
        "{directory}: the XDP programs of the running instance (switcher pid {living}) are pinned there, but not in this \
         keeper's mount namespace, as below 'ip netns exec'; {way_out}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_sees_the_pins_is_named() {
        let directory = Path::new("/run/shunt/lab/bpf");
        let text = refusal(directory, 7, Some(8));
        assert!(
            text.starts_with("/run/shunt/lab/bpf: ") && text.ends_with("nsenter -t 8 -m shunt-keeper ..."),
            "{text}"
        );
        assert!(refusal(directory, 7, None).contains("(switcher pid 7)"));
        assert_eq!(seen_by(8, directory), Path::new("/proc/8/root/run/shunt/lab/bpf"));
    }
}
