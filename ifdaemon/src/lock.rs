//! One ifdaemon an instance: a file that the running one holds locked, and that has its pid.

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why this process may not run.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another does.
    #[error("shunt-ifdaemon is already running as pid {0}; stop it first, or choose another --instance")]
    Held(String),
    /// The file can't be had.
    #[error("{path}: {source}; run it as root")]
    System {
        /// The lock's file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Held until it is dropped, or its process ends.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: Flock<File>,
}

impl Lock {
    /// Takes it at once, or says who has it.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let system = |source: io::Error| LockError::System { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(system)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            // Its last holder removed it between the opening and the locking: the next to open makes another.
            Ok(locked) if !is_at(&locked, path) => Self::take(path),
            Ok(mut locked) => {
                note_pid(&mut locked).map_err(system)?;
                Ok(Self { path: path.to_owned(), file: locked })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid).map_err(system)?;
                Err(LockError::Held(pid.trim().to_owned()))
            }
            Err((_, errno)) => Err(system(errno.into())),
        }
    }
}

impl Drop for Lock {
    /// Removes the file while it is still locked, and the instance's directory if nothing is left in it.
    fn drop(&mut self) {
        if is_at(&self.file, &self.path) && std::fs::remove_file(&self.path).is_ok() {
            let _ = self.path.parent().map(std::fs::remove_dir);
        }
    }
}

/// Whether the path still leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    let inode = |found: io::Result<Metadata>| found.map(|found| (found.dev(), found.ino())).ok();
    let held = inode(file.metadata());
    held.is_some() && held == inode(std::fs::metadata(path))
}

fn note_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_told_who_runs_and_a_third_follows_the_first() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("keeper.lock"), "").unwrap(); // so that the directory stays
        let path = directory.path().join("ifdaemon.lock");
        let first = Lock::take(&path).unwrap();
        let refusal = Lock::take(&path).unwrap_err().to_string();
        assert!(refusal.contains(&format!("already running as pid {};", std::process::id())), "{refusal}");
        drop(first);
        assert!(!path.exists());
        assert!(Lock::take(&path).is_ok());
    }

    #[test]
    fn the_last_one_removes_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let run = directory.path().join("run");
        std::fs::create_dir(&run).unwrap();
        drop(Lock::take(&run.join("ifdaemon.lock")).unwrap());
        assert!(!run.exists());
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let refusal = Lock::take(Path::new("/nowhere/ifdaemon.lock")).unwrap_err().to_string();
        assert!(refusal.contains("/nowhere/ifdaemon.lock"), "{refusal}");
    }
}
