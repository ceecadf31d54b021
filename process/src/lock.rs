//! Lock files: one process of each kind per instance, and one instance per interface. The file names its holder. The kernel
//! releases the lock when the process ends, however it ends.

use crate::Instance;
use crate::file::{is_at, open_locked};
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Why a lock could not be acquired.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("{program} is already running{}, or use another instance name", stop_hint(.pid))]
    Held {
        /// Name of this program.
        program: &'static str,
        /// The holder's pid; empty if the disk was too full to record it.
        pid: String,
    },
    /// The lock file could not be opened or locked.
    #[error("{path}: {source}; {}", advice(.source, .path))]
    System {
        /// The lock file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The holder's pid and how to stop it.
fn stop_hint(pid: &str) -> String {
    match pid {
        "" => "; stop it first".to_owned(),
        pid => format!(" as pid {pid}; stop it first (kill {pid})"),
    }
}

/// Remedy for a lock file that could not be opened or locked.
fn advice(source: &io::Error, path: &Path) -> String {
    if !is_full(source.kind()) {
        return "run it as root".to_owned();
    }
    let folder = path.parent().unwrap_or(path).display();
    format!("the disk is full: make room on the file system of {folder} (df {folder}); then start it again")
}

fn is_full(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A held lock, released on drop or when the process ends.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: Flock<File>,
    /// Whether dropping the lock also removes its directory, if empty: it belongs to the instance.
    removes_directory: bool,
}

impl LockError {
    /// Whether a restart would fail the same way.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Held { .. } => true,
            Self::System { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
        }
    }
}

impl Lock {
    /// Acquires the lock without waiting; the error names the holder. Creates the file's directory with mode 0700.
    pub fn take(path: &Path, program: &'static str) -> Result<Self, LockError> {
        let pid = std::process::id().to_string();
        let mut lock = Self::acquire(path, &pid)?.map_err(|pid| LockError::Held { program, pid })?;
        lock.removes_directory = true;
        Ok(lock)
    }

    /// Claims a resource that only one instance may use, or returns a description of the holder. All instances share the
    /// directory, so it is not removed: other processes may have it mounted (`ReadWritePaths` of systemd).
    pub fn claim(path: &Path, instance: &Instance) -> Result<Result<Self, String>, LockError> {
        let holder = format!("instance \"{instance}\" (shunt-keeper pid {})", std::process::id());
        let refused =
            |holder: String| if holder.is_empty() { "an instance that is starting".to_owned() } else { holder };
        Ok(Self::acquire(path, &holder)?.map_err(refused))
    }

    /// Acquires the lock and writes `holder` into the file, or returns what the present holder wrote.
    fn acquire(path: &Path, holder: &str) -> Result<Result<Self, String>, LockError> {
        let system = |source: io::Error| LockError::System { path: path.to_owned(), source };
        match open_locked(path, FlockArg::LockExclusiveNonblock).map_err(system)? {
            Ok(mut locked) => {
                match write_holder(&mut locked, holder) {
                    // The lock is valid without it: the name is only for another process's error message.
                    Err(error) if is_full(error.kind()) => {}
                    written => written.map_err(system)?,
                }
                Ok(Ok(Self { path: path.to_owned(), file: locked, removes_directory: false }))
            }
            Err(mut file) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(system)?;
                Ok(Err(holder.trim().to_owned()))
            }
        }
    }
}

impl Drop for Lock {
    /// Removes the file while it is still locked, then the instance's directory if it is empty.
    fn drop(&mut self) {
        if is_at(&self.file, &self.path) && std::fs::remove_file(&self.path).is_ok() && self.removes_directory {
            let _ = self.path.parent().map(std::fs::remove_dir);
        }
    }
}

fn write_holder(file: &mut File, holder: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{holder}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: &str = "shunt-test";

    #[test]
    fn a_second_one_is_told_who_runs_and_a_third_follows_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/test.lock");
        let first = Lock::take(&path, PROGRAM).unwrap();
        std::fs::write(directory.path().join("run/other.lock"), "").unwrap(); // so that the directory stays
        let refusal = Lock::take(&path, PROGRAM).unwrap_err().to_string();
        let begin = format!("shunt-test is already running as pid {};", std::process::id());
        assert!(refusal.starts_with(&begin), "{refusal}");
        drop(first);
        assert!(!path.exists());
        assert!(Lock::take(&path, PROGRAM).is_ok());
    }

    #[test]
    fn what_another_instance_has_is_refused_by_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("interface.1.2.lock");
        let [a, b] = ["a", "b"].map(|name| name.parse().unwrap());
        let held = Lock::claim(&path, &a).unwrap().unwrap();
        let holder = Lock::claim(&path, &b).unwrap().unwrap_err();
        assert_eq!(holder, format!("instance \"a\" (shunt-keeper pid {})", std::process::id()));
        drop(held);
        drop(Lock::claim(&path, &b).unwrap().unwrap());
        assert!(directory.path().exists() && !path.exists());
    }

    #[test]
    fn what_one_that_was_killed_left_is_in_nobodys_way() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.lock");
        std::fs::write(&path, "a pid longer than ours, for certain\n").unwrap();
        let _held = Lock::take(&path, PROGRAM).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    }

    #[test]
    fn the_last_one_removes_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let run = directory.path().join("run");
        drop(Lock::take(&run.join("test.lock"), PROGRAM).unwrap());
        assert!(!run.exists());
    }

    /// Runs a command of the test's own mount namespace.
    fn run(words: &[&str]) {
        assert!(std::process::Command::new(words[0]).args(&words[1..]).status().unwrap().success(), "{words:?}");
    }

    #[test]
    fn a_lock_is_held_on_a_full_disk_and_names_nobody() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: a file system of its own needs root");
            return;
        }
        // Namespaces are a thread's, and this one's vanishes with it.
        let held = std::thread::spawn(|| {
            use nix::sched::{CloneFlags, unshare};
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
            let directory = tempfile::tempdir().unwrap();
            run(&["mount", "--make-rprivate", "/"]);
            run(&["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", directory.path().to_str().unwrap()]);
            std::fs::write(directory.path().join("filler"), [0; 4096]).unwrap();
            let path = directory.path().join("test.lock");
            let held = Lock::take(&path, PROGRAM).unwrap();
            let refusal = Lock::take(&path, PROGRAM).unwrap_err().to_string();
            assert_eq!(refusal, "shunt-test is already running; stop it first, or use another instance name");
            drop(held);
            run(&["umount", directory.path().to_str().unwrap()]);
        });
        held.join().unwrap();
    }

    #[test]
    fn a_full_disk_is_told_as_one() {
        let error =
            |kind: io::ErrorKind| LockError::System { path: "/run/shunt/a/ifdaemon.lock".into(), source: kind.into() };
        let full = error(io::ErrorKind::StorageFull);
        assert!(full.to_string().contains("make room on the file system of /run/shunt/a (df /run/shunt/a)"), "{full}");
        assert!(!full.is_refusal(), "it heals");
        assert!(error(io::ErrorKind::PermissionDenied).to_string().ends_with("run it as root"));
    }

    #[test]
    fn a_file_that_cannot_be_is_named() {
        let refusal = Lock::take(Path::new("/proc/nowhere/test.lock"), PROGRAM).unwrap_err().to_string();
        assert!(refusal.contains("/proc/nowhere/test.lock"), "{refusal}");
    }
}
