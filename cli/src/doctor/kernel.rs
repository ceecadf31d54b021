//! Checks the kernel's version and build options.

use super::files::Files;
use super::finding::Finding;
use super::system::{self, Probe};

/// The first version with everything that the XDP program and shared UMEMs need.
const OLDEST: (u32, u32) = (5, 10);
/// The first version in which a successor can map the rings of a bound socket.
const TAKEOVER: (u32, u32) = (6, 4);

/// Runs the checks.
pub fn examine(files: &Files) -> Vec<Finding> {
    vec![
        version(files.text("proc/sys/kernel/osrelease").as_deref().unwrap_or("unknown")),
        bpf_filesystem(files),
        bpf_call(system::probe_bpf(), files.number("proc/sys/kernel/unprivileged_bpf_disabled")),
        xdp_socket(system::probe_xdp_socket()),
    ]
}

fn version(release: &str) -> Finding {
    const CHECK: &str = "kernel";
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < OLDEST {
        return Finding::fail(CHECK, format!("Linux {release}"), "install a kernel of 5.10 or later");
    }
    if version < TAKEOVER {
        let text = format!("Linux {release}: a switcher's successor can't take its queues over, and binds them anew");
        return Finding::warn(CHECK, text, "install a kernel of 6.4 or later, so that a restart loses no packet");
    }
    Finding::ok(CHECK, format!("Linux {release}"))
}

fn bpf_filesystem(files: &Files) -> Finding {
    const CHECK: &str = "bpffs";
    let known = files.text("proc/filesystems").is_some_and(|text| text.lines().any(|line| line.ends_with("\tbpf")));
    if known {
        Finding::ok(CHECK, "the kernel has it; the keeper mounts one in its own directory")
    } else {
        Finding::fail(CHECK, "the kernel has none", "use a kernel built with CONFIG_BPF_SYSCALL")
    }
}

fn bpf_call(probe: Probe, unprivileged: Option<u64>) -> Finding {
    const CHECK: &str = "bpf";
    let others = match unprivileged {
        Some(0) => "; unprivileged programs may use it too",
        _ => "",
    };
    match probe {
        Probe::Works => Finding::ok(CHECK, format!("an XSKMAP can be made{others}")),
        Probe::Denied => Finding::fail(
            CHECK,
            "the system refuses bpf() to this process",
            "run as root; in a container, add CAP_BPF or CAP_SYS_ADMIN",
        ),
        Probe::Absent(why) => Finding::fail(
            CHECK,
            format!("no XSKMAP can be made: {why}"),
            "use a kernel built with CONFIG_BPF_SYSCALL and CONFIG_XDP_SOCKETS, or port = \"af_packet\"",
        ),
    }
}

fn xdp_socket(probe: Probe) -> Finding {
    const CHECK: &str = "af_xdp";
    match probe {
        Probe::Works => Finding::ok(CHECK, "sockets can be opened"),
        Probe::Denied => Finding::fail(CHECK, "the system refuses AF_XDP sockets", "run as root, or add CAP_NET_RAW"),
        Probe::Absent(why) => Finding::warn(
            CHECK,
            format!("the kernel has no AF_XDP sockets: {why}"),
            "use a kernel built with CONFIG_XDP_SOCKETS; until then interfaces need port = \"af_packet\"",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let level = |release| version(release).level;
        assert_eq!(level("5.4.0-generic"), Level::Fail);
        assert_eq!(level("5.10.0"), Level::Warn);
        assert_eq!(level("6.3.9"), Level::Warn);
        assert_eq!(level("6.18.1-cloud"), Level::Ok);
        assert_eq!(level("nonsense"), Level::Fail);
    }
}
