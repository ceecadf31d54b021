//! Reads interfaces, addresses and free memory from the system; changes nothing.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use shunt_protocol::handover::open_process;

use super::{KeeperError, system_error};

/// A network interface as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkInterface {
    /// Its index.
    pub index: u32,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Receive queues.
    pub queues: u32,
    /// Whether it is up.
    pub is_up: bool,
    /// Whether the kernel forwards packets that arrive on it.
    pub forwards: bool,
    /// Whether the kernel drops packets whose source it would reach through another interface (strict reverse-path
    /// filtering, RFC 3704).
    pub filters_reverse_path: bool,
}

impl NetworkInterface {
    /// Looks up an interface by name; `None` if it does not exist or is not Ethernet.
    pub fn find(name: &str) -> Option<NetworkInterface> {
        let index = if_nametoindex(name).ok()?;
        let folder = Path::new("/sys/class/net").join(name);
        let (mac, flags) = link(name)?;
        let queues = std::fs::read_dir(folder.join("queues")).ok()?.flatten();
        let queues = queues.filter(|entry| entry.file_name().to_string_lossy().starts_with("rx-")).count();
        let forwarding = std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/forwarding"));
        Some(NetworkInterface {
            index,
            mac,
            mtu: std::fs::read_to_string(folder.join("mtu")).ok()?.trim().parse().ok()?,
            queues: queues as u32,
            is_up: flags.contains(InterfaceFlags::IFF_UP),
            filters_reverse_path: reverse_path_filter("all").max(reverse_path_filter(name)) == 1,
            forwards: forwarding.is_ok_and(|text| text.trim() == "1"),
        })
    }
}

/// 0 off, 1 strict, 2 loose; the larger of an interface's and that of `all` counts (ip-sysctl.rst).
fn reverse_path_filter(name: &str) -> u8 {
    let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"));
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn link(name: &str) -> Option<([u8; 6], InterfaceFlags)> {
    getifaddrs().ok()?.filter(|entry| entry.interface_name == name).find_map(|entry| {
        let mac = entry.address?.as_link_addr()?.addr()?;
        Some((mac, entry.flags))
    })
}

/// Opens the process with this id, if `lives` confirms it afterwards: before the descriptor pinned it, the process may have
/// died and its id been reused.
pub(super) fn open_living(pid: u32, lives: impl FnOnce() -> bool) -> Result<OwnedFd, KeeperError> {
    let process = open_process(pid).map_err(system_error("pidfd_open"))?;
    if lives() { Ok(process) } else { Err(system_error("a process that has just died")(nix::Error::ESRCH)) }
}

/// Bytes free in /dev/shm.
pub(super) fn shared_memory_free() -> nix::Result<u64> {
    let system = nix::sys::statvfs::statvfs("/dev/shm")?;
    Ok(system.blocks_available() * system.fragment_size())
}

/// Bytes that this process may pin; `None` if unlimited. CAP_IPC_LOCK (bit 14 of the effective capabilities,
/// capabilities(7)) lifts the limit.
pub(super) fn pinned_memory_limit() -> Option<u64> {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
    const CAP_IPC_LOCK: u32 = 14;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    if effective >> CAP_IPC_LOCK & 1 == 1 {
        return None;
    }
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let (soft, _) = getrlimit(Resource::RLIMIT_MEMLOCK).ok()?;
    (soft != RLIM_INFINITY).then_some(soft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_another_one_by_now_is_not_opened() {
        let pid = std::process::id();
        assert!(open_living(pid, || true).is_ok());
        let error = open_living(pid, || false).expect_err("it isn't the one").to_string();
        assert!(error.starts_with("a process that has just died: "), "{error}");
    }
}
