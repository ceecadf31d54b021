//! Locks on the addresses that control serves, so that of two instances that take one at the same moment one is refused.
//!
//! Memory shows an address only once it is published. Until then a lock does, which ends with its process:
//!
//! ```text
//!  nobody's -- claim(): look, lock, look again --> locked, not in memory yet -- published --> locked, in memory
//!                         \- refused: another instance has locked it, or has it in memory
//! ```
//!
//! A control that was killed gives its locks back; what its switchers serve is in memory. One file for each network
//! namespace, a byte for each address: a file for each would be a descriptor for each.

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

/// Bytes of IPv6 addresses begin here, above those of IPv4.
const IPV6: u64 = 1 << 62;

/// The locks of one control.
#[derive(Debug)]
pub struct AddressLocks {
    path: PathBuf,
    /// Locked by all who have it open, so that the last one can remove it.
    file: Flock<File>,
    held: BTreeSet<IpAddr>,
}

impl AddressLocks {
    /// Holds none yet.
    pub fn open() -> io::Result<Self> {
        Self::at(&claim_lock("addresses", own_network_namespace()?, "all"))
    }

    /// The same in a file of the caller's.
    pub fn at(path: &Path) -> io::Result<Self> {
        // Waits for one who is removing it, and takes the next one then.
        let file = open_locked(path, FlockArg::LockShared)?.map_err(|_| Errno::EWOULDBLOCK)?;
        Ok(Self { path: path.to_owned(), file, held: BTreeSet::new() })
    }

    /// Takes the addresses of a configuration, or says which ones another instance has. Those of which `is_ours` says that
    /// this instance serves them already are never refused. To be followed by [`AddressLocks::settle`].
    pub fn claim(&mut self, config: &Config, is_ours: impl Fn(IpAddr) -> bool) -> io::Result<Vec<TakenAddress>> {
        let look = || TakenAddress::find(config, &is_ours);
        let taken = look();
        if !taken.is_empty() {
            return Ok(taken);
        }
        // In order, so that two that want several don't refuse each other.
        for address in addresses(config) {
            if !self.lock(address)? && !is_ours(address) {
                return Ok(vec![TakenAddress { address, instance: None }]);
            }
        }
        Ok(look())
    }

    /// Keeps the locks of the configuration that is used from now on, and gives back all others.
    pub fn settle(&mut self, used: Option<&Config>) {
        let used = used.map(addresses).unwrap_or_default();
        for address in self.held.extract_if(.., |address| !used.contains(address)) {
            // The lock is ours and the range is valid; a lock that stayed would end with the process.
            let _ = fcntl(&*self.file, FcntlArg::F_OFD_SETLK(&range(address, libc::F_UNLCK)));
        }
    }

    /// Whether it is ours now.
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
    /// The last one removes the file; one that was killed leaves it for the next.
    fn drop(&mut self) {
        if self.file.relock(FlockArg::LockExclusiveNonblock).is_ok() && is_at(&self.file, &self.path) {
            // What stays is in nobody's way.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The byte of an address.
fn range(address: IpAddr, kind: libc::c_int) -> libc::flock {
    let start = match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        // Two that share a byte are refused for nothing, which is as rare as two such numbers by chance.
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

    /// With another lock than all others', two would never refuse each other.
    #[test]
    fn without_its_namespace_nothing_is_locked() {
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
