//! One keeper an instance: a lock on a file, held until the process ends, however it ends.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use shunt_config::{Instance, keeper_lock, runtime_directory};

use super::{KeeperError, file_error};

/// The lock, held.
pub(super) struct Lock {
    path: PathBuf,
    _file: Flock<File>,
}

impl Lock {
    /// Takes it, or says who has it. Makes the instance's directory, closed to others.
    pub fn take(instance: &Instance) -> Result<Lock, KeeperError> {
        let directory = runtime_directory(instance);
        std::fs::create_dir_all(&directory).map_err(file_error(&directory))?;
        std::fs::set_permissions(&directory, Permissions::from_mode(0o700)).map_err(file_error(&directory))?;
        let path = keeper_lock(instance);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(file_error(&path))?;
        let mut holder = String::new();
        file.read_to_string(&mut holder).map_err(file_error(&path))?;
        let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => KeeperError::Running(holder.trim().to_owned()),
            errno => file_error(&path)(errno),
        })?;
        file.rewind().and_then(|()| file.set_len(0)).map_err(file_error(&path))?;
        writeln!(file, "{}", std::process::id()).map_err(file_error(&path))?;
        Ok(Lock { path, _file: file })
    }

    /// Removes the file, and the directory if nothing is left in it.
    pub fn remove(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            log::warn!("{}: {error}", self.path.display());
        }
        if let Some(directory) = self.path.parent() {
            // Control's files may still be there: then it stays.
            let _ = std::fs::remove_dir(directory);
        }
    }
}
