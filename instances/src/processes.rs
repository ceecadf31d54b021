//! The living processes of one instance, whichever process started them: those recorded in its shared memory, and those
//! that hold its locks. A starting keeper has a lock but no memory yet; a switcher has memory but no lock.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use nix::sys::stat::{major, minor};
use shunt_process::{
    Instance, control_lock, ifdaemon_lock, inode, instances, keeper_lock, region_name, supervisor_lock,
};
use shunt_shmlayout::header::start_time;
use shunt_shmlayout::regions::{ControlRegion, KeeperRegion, Typed};

/// A living process. Its start time distinguishes it from a later process with the same id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// `keeper`, `control`, `ifdaemon` or `switcher.N`.
    pub name: String,
    /// Process id.
    pub pid: u32,
    /// Start time ([`start_time`]).
    pub start_time: u64,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, pid, start_time } = self;
        write!(f, "{name} {pid} {start_time}")
    }
}

/// All living processes, by name. A lock's holder takes precedence over shared memory: the lock is taken first.
pub fn living_processes(instance: &Instance) -> Vec<Process> {
    let keeper = <KeeperRegion>::attach(&region_name(instance, "keeper")).ok();
    let control = <ControlRegion>::attach(&region_name(instance, "control")).ok();
    let named = keeper.iter().flat_map(|(keeper, _)| of_keeper(keeper));
    let named = named.chain(control.iter().filter_map(|(control, _)| {
        living("control", control.head.pid.get() as u32, Some(control.head.start_time.get()))
    }));
    let locks =
        [("keeper", keeper_lock(instance)), ("control", control_lock(instance)), ("ifdaemon", ifdaemon_lock(instance))];
    let holders = locks.iter().filter_map(|(name, path)| living(name, holder(path)?, None));
    let all: BTreeMap<String, Process> = named.chain(holders).map(|process| (process.name.clone(), process)).collect();
    all.into_values().collect()
}

/// Every instance that has shared memory or a living process. An empty directory or an unheld lock does not count.
pub fn present() -> Vec<Instance> {
    instances().into_iter().filter(is_present).collect()
}

fn is_present(instance: &Instance) -> bool {
    let prefix = region_name(instance, "").trim_start_matches('/').to_owned();
    let mut memory = std::fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    memory.any(|file| file.file_name().to_string_lossy().starts_with(&prefix))
        || !living_processes(instance).is_empty()
        || holder(&supervisor_lock(instance)).is_some()
}

fn of_keeper(keeper: &KeeperRegion) -> Vec<Process> {
    let head = keeper.head;
    let switchers = keeper.switchers.iter().enumerate().filter_map(|(number, record)| {
        let record = record.load();
        living(&format!("switcher.{number}"), record.pid, Some(record.start_time))
    });
    let own = living("keeper", head.pid.get() as u32, Some(head.start_time.get()));
    let daemon = living("ifdaemon", head.ifdaemon_pid.get() as u32, Some(head.ifdaemon_start_time.get()));
    own.into_iter().chain(switchers).chain(daemon).collect()
}

/// The process with this id, if its start time matches.
fn living(name: &str, pid: u32, started: Option<u64>) -> Option<Process> {
    let start_time = start_time(pid).filter(|found| pid != 0 && started.is_none_or(|started| started == *found))?;
    Some(Process { name: name.to_owned(), pid, start_time })
}

/// The process that holds the lock, if any. This reads the kernel's list, because trying the lock could make a starting
/// process fail.
fn holder(path: &Path) -> Option<u32> {
    let (device, inode) = inode(std::fs::metadata(path))?;
    let file = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    std::fs::read_to_string("/proc/locks").ok()?.lines().find_map(|line| holder_of(line, &file))
}

/// Parses a line such as `1: FLOCK  ADVISORY  WRITE 713 00:19:1234 0 EOF` (proc_locks(5)). A waiting process has an arrow
/// before FLOCK.
fn holder_of(line: &str, file: &str) -> Option<u32> {
    let mut words = line.split_whitespace().skip(1);
    let is_lock = words.next()? == "FLOCK";
    let pid = words.nth(2)?.parse().ok()?;
    (is_lock && words.next()? == file).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_process::Lock;
    use shunt_shmlayout::regions::{KeeperShape, SwitcherRecord, Whole};

    #[test]
    fn the_holder_of_a_lock_is_found_and_one_that_was_killed_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keeper.lock");
        assert_eq!(holder(&path), None);
        std::fs::write(&path, "1\n").unwrap();
        assert_eq!(holder(&path), None, "nobody holds it");
        let _held = Lock::take(&path, "shunt-test").unwrap();
        assert_eq!(holder(&path), Some(std::process::id()));
    }

    #[test]
    fn a_directory_with_a_lock_that_nobody_holds_is_no_instance() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: /run/shunt is root's");
            return;
        }
        let instance: Instance = format!("ghost-{}", std::process::id()).parse().unwrap();
        let lock = keeper_lock(&instance);
        std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
        std::fs::write(&lock, "1\n").unwrap();
        assert!(instances().contains(&instance) && !present().contains(&instance));
        let held = Lock::take(&lock, "shunt-test").unwrap();
        assert!(present().contains(&instance));
        drop(held);
        let memory = Path::new("/dev/shm").join(region_name(&instance, "keeper").trim_start_matches('/'));
        std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
        std::fs::write(&memory, "").unwrap();
        let is_there = present().contains(&instance);
        std::fs::remove_file(&memory).unwrap();
        std::fs::remove_dir(lock.parent().unwrap()).unwrap();
        assert!(is_there);
    }

    #[test]
    fn a_lock_that_is_waited_for_is_not_held() {
        let of = |line| holder_of(line, "00:19:1234");
        assert_eq!(of("1: FLOCK  ADVISORY  WRITE 713 00:19:1234 0 EOF"), Some(713));
        assert_eq!(of("1: FLOCK  ADVISORY  WRITE 713 00:1a:1234 0 EOF"), None);
        assert_eq!(of("1: -> FLOCK  ADVISORY  WRITE 714 00:19:1234 0 EOF"), None);
        assert_eq!(of("2: POSIX  ADVISORY  WRITE 713 00:19:1234 0 EOF"), None);
    }

    #[test]
    fn processes_that_live_are_told_from_their_successors() {
        let shape = KeeperShape { interfaces: 1, switchers: 2, ports: 1, reserved: [0; 5] };
        let keeper = KeeperRegion::anonymous(&shape).unwrap();
        assert_eq!(of_keeper(&keeper.lend()), []);
        let pid = std::process::id();
        let start_time = start_time(pid).unwrap();
        keeper.switchers[0].store(&SwitcherRecord { pid, start_time: start_time - 1, ..SwitcherRecord::default() });
        keeper.switchers[1].store(&SwitcherRecord { pid, start_time, ..SwitcherRecord::default() });
        let told: Vec<_> = of_keeper(&keeper.lend()).iter().map(Process::to_string).collect();
        assert_eq!(told, [format!("switcher.1 {pid} {start_time}")]);
    }
}
