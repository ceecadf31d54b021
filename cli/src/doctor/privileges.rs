//! Checks that this process has the keeper's privileges.

use super::files::Files;
use super::finding::Finding;

/// Names, numbers and purposes of capabilities(7).
const NEEDED: [(&[(&str, u32)], &str); 4] = [
    (&[("CAP_NET_ADMIN", 12)], "to attach the XDP program and set neighbours"),
    (&[("CAP_BPF", 39), ("CAP_SYS_ADMIN", 21)], "to load the XDP program"),
    (&[("CAP_NET_RAW", 13)], "to open AF_XDP and AF_PACKET sockets"),
    (&[("CAP_SYS_ADMIN", 21)], "to mount the bpffs that the program's links are pinned in"),
];
const IPC_LOCK: u32 = 14;

/// Runs the checks.
pub fn examine(files: &Files) -> Vec<Finding> {
    let effective = files.own_status("CapEff").and_then(|hex| u64::from_str_radix(&hex, 16).ok()).unwrap_or(0);
    let mut findings: Vec<Finding> = NEEDED.iter().map(|(any, purpose)| capability(effective, any, purpose)).collect();
    findings.push(locked_memory(effective, files));
    findings
}

fn has(effective: u64, number: u32) -> bool {
    effective >> number & 1 == 1
}

fn capability(effective: u64, any: &[(&str, u32)], purpose: &str) -> Finding {
    const CHECK: &str = "capability";
    let names: Vec<&str> = any.iter().map(|(name, _)| *name).collect();
    let names = names.join(" or ");
    if any.iter().any(|(_, number)| has(effective, *number)) {
        Finding::ok(CHECK, purpose).of(names)
    } else {
        Finding::fail(CHECK, format!("missing {purpose}"), "run as root (with sudo), or grant it to the container")
            .of(names)
    }
}

/// Registering the frame pool locks its pages.
fn locked_memory(effective: u64, files: &Files) -> Finding {
    const CHECK: &str = "memlock";
    let limits = files.text("proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
    let limit = line.and_then(|line| line.split_whitespace().next()).unwrap_or("unknown");
    if has(effective, IPC_LOCK) {
        Finding::ok(CHECK, format!("CAP_IPC_LOCK: the limit of {limit} doesn't count"))
    } else if limit == "unlimited" {
        Finding::ok(CHECK, "unlimited")
    } else {
        let text = format!("the limit is {limit} bytes, and CAP_IPC_LOCK is missing: registering the frame pool fails");
        Finding::fail(CHECK, text, "run as root, or: ulimit -l unlimited (LimitMEMLOCK=infinity in a systemd unit)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn either_of_two_capabilities_is_enough() {
        let any = [("CAP_BPF", 39), ("CAP_SYS_ADMIN", 21)];
        assert_eq!(capability(1 << 21, &any, "").level, Level::Ok);
        assert_eq!(capability(1 << 39, &any, "").level, Level::Ok);
        assert_eq!(capability(1 << 20, &any, "").level, Level::Fail);
    }

    #[test]
    fn the_memlock_limit_counts_only_without_the_capability() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/self")).unwrap();
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax locked memory         8388608     8388608     bytes\n";
        std::fs::write(root.path().join("proc/self/limits"), limits).unwrap();
        let files = Files::below(root.path());
        assert_eq!(locked_memory(1 << IPC_LOCK, &files).level, Level::Ok);
        let refused = locked_memory(0, &files);
        assert_eq!(refused.level, Level::Fail);
        assert!(refused.text.contains("8388608"), "{}", refused.text);
    }
}
