//! Locks on the addresses that control serves: of two instances that claim one concurrently, one is refused.
//!
//! Shared memory shows an address only after it is published. Until then a lock protects it, which ends with its process:
//!
//! ```text
//!  unclaimed -- claim(): check, lock, check again --> locked, not in memory yet -- published --> locked, in memory
//!                         \- refused: another instance has locked it, or has it in memory
//! ```
//!
//! A killed control releases its locks; the addresses that its switchers serve are in shared memory. There is one file per
//! network namespace with one byte per address, because a file per address would need a descriptor per address.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use nix::libc;
use shunt_config::Config;
use shunt_process::{claim_lock, is_at, open_locked};
use shunt_shmlayout::header::own_network_namespace;

use crate::{TakenAddress, addresses};

/// First byte for IPv6 addresses, above those of IPv4.
const IPV6: u64 = 1 << 62;

/// The locks of one control.
#[derive(Debug)]
pub struct AddressLocks {
    path: PathBuf,
    /// Held shared by every process that has the file open, so that the last one can remove it.
    file: Flock<File>,
    held: BTreeSet<IpAddr>,
}

impl AddressLocks {
    /// Holds no locks yet.
    pub fn open() -> io::Result<Self> {
        Self::at(&claim_lock("addresses", own_network_namespace()?, "all"))
    }

    /// The same, with a given file.
    pub fn at(path: &Path) -> io::Result<Self> {
        // Blocks while another process removes the file, then uses its replacement.
        let file = open_locked(path, FlockArg::LockShared)?.map_err(|_| Errno::EWOULDBLOCK)?;
        Ok(Self { path: path.to_owned(), file, held: BTreeSet::new() })
    }

    /// Locks the addresses of a configuration, or returns those that another instance has. Addresses for which `is_ours`
    /// returns true are already served by this instance and are never refused. Must be followed by
    /// [`AddressLocks::settle`].
    pub fn claim(&mut self, config: &Config, is_ours: impl Fn(IpAddr) -> bool) -> io::Result<Vec<TakenAddress>> {
        let look = || TakenAddress::find(config, &is_ours);
        let taken = look();
        if !taken.is_empty() {
            return Ok(taken);
        }
        // In order, so that two instances that claim several addresses do not refuse each other.
        for address in addresses(config) {
            if !self.lock(address)? && !is_ours(address) {
                return Ok(vec![TakenAddress { address, instance: None }]);
            }
        }
        Ok(look())
    }

    /// Keeps the locks of the configuration now in use, and releases all others.
    pub fn settle(&mut self, used: Option<&Config>) {
        let used = used.map(addresses).unwrap_or_default();
        for address in self.held.extract_if(.., |address| !used.contains(address)) {
            // The lock is ours and the range is valid; a lock that stayed would end with the process.
            let _ = fcntl(&*self.file, FcntlArg::F_OFD_SETLK(&range(address, libc::F_UNLCK)));
        }
    }

    /// Whether the lock was acquired.
    fn lock(&mut self, address: IpAddr) -> io::Result<bool> {
        match fcntl(&*self.file, FcntlArg::F_OFD_SETLK(&range(address, libc::F_WRLCK))) {
            Ok(_) => {
                self.held.insert(address);
                Ok(true)
            }
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Drop for AddressLocks {
    /// The last holder removes the file; a killed one leaves it for the next.
    fn drop(&mut self) {
        if self.file.relock(FlockArg::LockExclusiveNonblock).is_ok() && is_at(&self.file, &self.path) {
            // A file left behind does no harm.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The lock byte of an address.
fn range(address: IpAddr, kind: libc::c_int) -> libc::flock {
    let start = match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        // Two addresses that share a byte refuse each other needlessly, which is as rare as a hash collision.
        IpAddr::V6(address) => IPV6 | (((address.to_bits() >> 64) ^ address.to_bits()) as u64 & (IPV6 - 1)),
    };
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};

    /// Of an instance that serves these addresses.
    fn config(instance: &str, last: &[u8]) -> Config {
        let mut text = format!("instance = \"{instance}\"\n[switchers]\ncount = 1\n[[interface]]\nname = \"eth0\"\n");
        for last in last {
            text +=
                &format!("[[service]]\nname = \"s{last}\"\naddress = \"203.0.113.{last}:80\"\nprotocol = \"tcp\"\n");
            text +=
                &format!("mode = \"nat\"\n[[service.backend]]\nname = \"b{last}\"\naddress = \"198.18.1.{last}:80\"\n");
        }
        Config::parse(&text, "shunt.toml").unwrap()
    }

    fn claim(locks: &mut AddressLocks, config: &Config) -> Vec<String> {
        let taken = locks.claim(config, |_| false).unwrap();
        locks.settle(taken.is_empty().then_some(config));
        taken.iter().map(ToString::to_string).collect()
    }

    fn file() -> (tempfile::TempDir, impl Fn() -> AddressLocks) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/addresses.lock");
        (folder, move || AddressLocks::at(&path).unwrap())
    }

    /// Neither has published anything: each sees nothing in the other's memory.
    #[test]
    fn of_two_that_want_one_address_at_once_one_is_refused() {
        let (_folder, open) = file();
        let wants = [config("a", &[1, 2]), config("b", &[3, 2])];
        for _ in 0..50 {
            let (mut locks, barrier) = ([open(), open()], std::sync::Barrier::new(2));
            let refused: usize = std::thread::scope(|scope| {
                let race = |(locks, config)| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        barrier.wait();
                        claim(locks, config).len()
                    })
                };
                let threads: Vec<_> = locks.iter_mut().zip(&wants).map(race).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(refused, 1);
        }
    }

    #[test]
    fn an_address_is_refused_until_its_holder_ends_or_serves_it_no_more() {
        let (_folder, open) = file();
        let (mut a, mut b) = (open(), open());
        let both = config("a", &[1, 2]);
        assert_eq!(claim(&mut a, &both), [""; 0]);
        assert_eq!(claim(&mut a, &both), [""; 0], "a reload");
        let text = claim(&mut b, &config("b", &[2])).concat();
        assert!(text.starts_with("address 203.0.113.2 is being taken by another instance of this machine"), "{text}");
        assert_eq!(b.claim(&config("b", &[2]), |_| true).unwrap(), [], "it serves it already");
        assert_eq!(claim(&mut a, &config("a", &[1])), [""; 0]);
        assert_eq!(claim(&mut b, &config("b", &[2])), [""; 0]);
        assert_eq!(claim(&mut a, &both).len(), 1);
        drop(b);
        assert_eq!(claim(&mut a, &both), [""; 0]);
    }

    /// A lock under another namespace's number would exclude no other instance.
    #[test]
    fn an_unknown_network_namespace_is_an_error() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: mount namespaces need root");
            return;
        }
        let without_proc = || {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(Some("tmpfs"), "/proc", Some("tmpfs"), MsFlags::empty(), none).unwrap();
            AddressLocks::open().unwrap_err().to_string()
        };
        let refused = std::thread::spawn(without_proc).join().unwrap();
        assert!(refused.starts_with("/proc/self/ns/net: "), "{refused}");
    }

    #[test]
    fn the_last_one_removes_the_file() {
        let (folder, open) = file();
        let (a, b) = (open(), open());
        let path = folder.path().join("run/addresses.lock");
        drop(a);
        assert!(path.exists());
        drop(b);
        assert!(!path.exists());
    }

    #[test]
    fn each_address_has_a_byte_of_its_own() {
        let texts = ["0.0.0.0", "255.255.255.255", "198.18.0.1", "::1", "2001:db8::1", "2001:db8::2"];
        let starts: BTreeSet<_> = texts.map(|text| range(text.parse().unwrap(), libc::F_WRLCK).l_start).into();
        assert_eq!(starts.len(), texts.len());
        assert!(starts.iter().all(|start| *start >= 0));
    }
}
