//! The header of every region: its kind and layout, its creator, and whether it is complete.
//!
//! ```text
//!   0  magic          "SHUNTMEM"
//!   8  version        layout version, incremented by hand
//!  16  kind           which region
//!  24  layout hash    names, sizes and offsets of all fields (`layout.rs`)
//!  32  size           bytes
//!  40  boot id        16 bytes; memory of an earlier boot is stale
//!  56  creator pid
//!  64  creator start  clock ticks after boot, to detect a reused pid
//!  72  ready          magic again, written last
//! ```
//!
//! The keeper writes it once; each attaching process checks every word.

use crate::access::{Reader, Writer};
use crate::layout::described;
use crate::record::Counter;
use crate::sync::Ordering;
use crate::word::Word;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::path::PathBuf;
use zerocopy::FromBytes;

/// "SHUNTMEM" in big-endian order.
pub const MAGIC: u64 = u64::from_be_bytes(*b"SHUNTMEM");
/// Incremented when the meaning of a field changes without a change of sizes and offsets.
pub const VERSION: u64 = 6;

/// The first cache lines of every region.
#[repr(C, align(64))]
#[derive(FromBytes)]
pub struct Header<A = Reader> {
    magic: Counter<A>,
    version: Counter<A>,
    kind: Counter<A>,
    layout_hash: Counter<A>,
    size: Counter<A>,
    boot_id: [Counter<A>; 2],
    creator_pid: Counter<A>,
    creator_start: Counter<A>,
    ready: Word<A>,
    _reserved: [Counter<A>; 6],
}

described!(Header<A> { magic, version, kind, layout_hash, size, boot_id, creator_pid, creator_start, ready, _reserved });

/// Which region a header belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Kind {
    /// Written by control.
    Control = 1,
    /// Written by the keeper.
    Keeper = 2,
    /// The connection table.
    Connections = 3,
    /// Written by one switcher.
    Switcher = 4,
    /// The packet store of one switcher.
    Store = 5,
    /// Written by the interface daemon.
    Ifdaemon = 6,
}

/// Failure to attach a region; the message includes a remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The region does not exist.
    #[error("shared memory {0} does not exist: is Shunt running? Start it with deploy/shunt-supervisor CONFIG")]
    Missing(PathBuf),
    /// A system call failed.
    #[error("shared memory {path}: {what}: {source}")]
    System {
        /// The region's file.
        path: PathBuf,
        /// The operation, as a verb phrase.
        what: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// A header field or file attribute has an unexpected value.
    #[error("shared memory {path}: {field} is {found}, expected {expected}: {advice}")]
    Field {
        /// The region's file.
        path: PathBuf,
        /// The field's name.
        field: &'static str,
        /// Actual value.
        found: String,
        /// Expected value.
        expected: String,
        /// Remedy.
        advice: &'static str,
    },
}

/// The kernel's id of the current boot.
pub fn boot_id() -> std::io::Result<[u64; 2]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let hex: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&hex, 16).map_err(std::io::Error::other)?;
    Ok([(number >> 64) as u64, number as u64])
}

/// Whether a process id belongs to a running process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Liveness {
    /// It does. Start time in clock ticks after boot.
    Started(u64),
    /// It does, but `/proc` hides the start time (mount option `hidepid`).
    Hidden,
    /// No process has the id, or a dead one that is not yet reaped.
    Dead,
}

/// Looks a process id up.
pub fn liveness(pid: u32) -> Liveness {
    let Ok(id) = i32::try_from(pid) else { return Liveness::Dead };
    let exists = || id > 0 && kill(Pid::from_raw(id), None) != Err(Errno::ESRCH);
    liveness_by(std::fs::read(format!("/proc/{pid}/stat")), exists)
}

/// An unreadable file alone does not make a process dead: with `hidepid=2`, that of a running process does not exist.
fn liveness_by(stat: std::io::Result<Vec<u8>>, exists: impl FnOnce() -> bool) -> Liveness {
    let is_reaped = stat.as_ref().is_err_and(|error| error.raw_os_error() == Some(Errno::ESRCH as i32));
    match stat.ok().and_then(|stat| liveness_in(&String::from_utf8_lossy(&stat))) {
        Some(liveness) => liveness,
        None if !is_reaped && exists() => Liveness::Hidden,
        None => Liveness::Dead,
    }
}

/// Fields 3 and 22 of `/proc/PID/stat` (proc(5)): state and start time.
fn liveness_in(stat: &str) -> Option<Liveness> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    match fields.next()? {
        "Z" | "X" => Some(Liveness::Dead),
        _ => Some(Liveness::Started(fields.nth(18)?.parse().ok()?)),
    }
}

/// Start time of a process, in clock ticks after boot. `None` if it is not running or `/proc` hides it.
pub fn start_time(pid: u32) -> Option<u64> {
    match liveness(pid) {
        Liveness::Started(started) => Some(started),
        Liveness::Hidden | Liveness::Dead => None,
    }
}

/// Inode of a process's network namespace. `None` if there is no such process.
pub fn network_namespace(pid: u32) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|namespace| namespace.ino())
}

/// This process's network namespace, by its inode.
pub fn own_network_namespace() -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    const NAMESPACE: &str = "/proc/self/ns/net";
    let unreadable = |error: std::io::Error| std::io::Error::new(error.kind(), format!("{NAMESPACE}: {error}"));
    Ok(std::fs::metadata(NAMESPACE).map_err(unreadable)?.ino())
}

/// Whether a process with this id and start time ([`start_time`]) is running. False for id 0 and for a reused id.
/// A hidden process counts as running: memory that it may read must not change.
pub fn is_alive(pid: u64, started: u64) -> bool {
    let liveness = u32::try_from(pid).map_or(Liveness::Dead, liveness);
    liveness == Liveness::Hidden || liveness == Liveness::Started(started)
}

/// Whether a process with this id is running and `/proc` hides its start time.
pub fn is_hidden(pid: u64) -> bool {
    u32::try_from(pid).is_ok_and(|pid| liveness(pid) == Liveness::Hidden)
}

/// Whether a process is running ([`is_alive`]) in the caller's network namespace.
pub fn lives_here(pid: u64, started: u64) -> bool {
    is_alive(pid, started) && network_namespace(pid as u32) == network_namespace(std::process::id())
}

impl Header<Writer> {
    /// Writes all fields except the ready word.
    pub(crate) fn describe(&self, kind: Kind, layout_hash: u64, size: usize) -> std::io::Result<()> {
        self.ready.store(0, Ordering::Release);
        let pid = std::process::id();
        let values = [MAGIC, VERSION, kind as u64, layout_hash, size as u64];
        for (field, value) in [&self.magic, &self.version, &self.kind, &self.layout_hash, &self.size].iter().zip(values)
        {
            field.set(value);
        }
        for (field, value) in self.boot_id.iter().zip(boot_id()?) {
            field.set(value);
        }
        self.creator_pid.set(u64::from(pid));
        self.creator_start.set(start_time(pid).unwrap_or(0));
        Ok(())
    }

    /// Writes the ready word, after all other data of the region.
    pub(crate) fn make_ready(&self) {
        self.ready.store(MAGIC, Ordering::Release); // pairs with check()
    }
}

impl<A> Header<A> {
    /// Checks all fields. The error is the first mismatch: field, actual value, expected value, remedy.
    pub(crate) fn check(
        &self,
        kind: Kind,
        layout_hash: u64,
        mapped: usize,
        boot: [u64; 2],
    ) -> Result<(), (&'static str, String, String, &'static str)> {
        const STALE: &str = "stop Shunt and start it again to recreate the memory";
        const BUILD: &str = "another build of Shunt created it: use the same build for all processes";
        let ready = self.ready.load(Ordering::Acquire); // pairs with make_ready()
        let hex = |n: u64| format!("{n:#x}");
        let dec = |n: u64| n.to_string();
        type Check<'a> = (&'static str, u64, u64, &'a dyn Fn(u64) -> String, &'static str);
        let checks: [Check<'_>; 8] = [
            (
                "magic",
                self.magic.get(),
                MAGIC,
                &hex,
                "it is not Shunt's: remove the file, or use another instance name",
            ),
            ("layout version", self.version.get(), VERSION, &dec, BUILD),
            ("kind", self.kind.get(), kind as u64, &dec, STALE),
            ("layout hash", self.layout_hash.get(), layout_hash, &hex, BUILD),
            ("size", self.size.get(), mapped as u64, &dec, STALE),
            ("boot id (high half)", self.boot_id[0].get(), boot[0], &hex, STALE),
            ("boot id (low half)", self.boot_id[1].get(), boot[1], &hex, STALE),
            ("ready word", ready, MAGIC, &hex, "its creator has not finished it: wait, or start Shunt again"),
        ];
        match checks.into_iter().find(|(_, found, expected, ..)| found != expected) {
            None => Ok(()),
            Some((field, found, expected, show, advice)) => Err((field, show(found), show(expected), advice)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_by_its_id_and_its_start() {
        let pid = u64::from(std::process::id());
        let started = start_time(std::process::id()).unwrap();
        assert!(is_alive(pid, started) && lives_here(pid, started));
        for (pid, started) in [(0, started), (pid, started - 1), (pid | 1 << 32, started)] {
            assert!(!is_alive(pid, started) && !lives_here(pid, started), "{pid} {started}");
        }
    }

    #[test]
    fn an_unreadable_process_is_hidden_and_not_dead() {
        let error = |errno: Errno| Err(std::io::Error::from(errno));
        let stat =
            |state: &str, started: &str| Ok(format!("7 (a) b) {state} 1 {}{started} 0", "0 ".repeat(17)).into_bytes());
        assert_eq!(liveness_by(stat("S", "1234"), || unreachable!()), Liveness::Started(1234));
        assert_eq!(liveness_by(stat("Z", "1234"), || unreachable!()), Liveness::Dead, "not yet reaped");
        assert_eq!(liveness_by(error(Errno::ESRCH), || true), Liveness::Dead, "it ended while its file was read");
        for errno in [Errno::EPERM, Errno::EACCES, Errno::ENOENT, Errno::EMFILE] {
            assert_eq!(liveness_by(error(errno), || true), Liveness::Hidden, "{errno}");
            assert_eq!(liveness_by(error(errno), || false), Liveness::Dead, "{errno}");
        }
        assert_eq!(liveness_by(stat("S", "not a number"), || true), Liveness::Hidden);
    }

    #[test]
    fn a_zombie_and_an_unused_id_are_dead() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        while liveness(pid) != Liveness::Dead {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert_eq!([liveness(pid), liveness(0), liveness(u32::MAX)], [Liveness::Dead; 3]);
    }
}
