//! The listening socket `keeper.sock`: its file comes back if somebody removes it.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};

use super::{KeeperError, file_error};

/// Interval for checking the socket's file.
const CHECK_EVERY: Duration = Duration::from_secs(1);

pub(super) fn remove_if_there(path: &Path) -> Result<(), KeeperError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(file_error(path)(error)),
        _ => Ok(()),
    }
}

/// A listening socket and its file, which is removed when this is dropped.
pub(super) struct Listener {
    pub path: PathBuf,
    pub socket: OwnedFd,
    /// Device and inode of the file.
    file: Option<(u64, u64)>,
    checked: Instant,
    /// Whether the last attempt to listen again failed, so that a failure is logged once.
    has_failed: bool,
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            log::warn!("{}: {error}", self.path.display());
        }
    }
}

impl Listener {
    pub fn open(path: PathBuf) -> Result<Listener, KeeperError> {
        let socket = bound(&path)?;
        Ok(Listener { file: identity(&path), socket, checked: Instant::now(), has_failed: false, path })
    }

    /// Listens again if the file is gone or another one: no process could reach the old socket.
    pub fn keep(&mut self) {
        if self.checked.elapsed() < CHECK_EVERY {
            return;
        }
        self.checked = Instant::now();
        let file = identity(&self.path);
        if file.is_some() && file == self.file {
            return;
        }
        match bound(&self.path) {
            Ok(socket) => {
                log::warn!("{} was removed or replaced: made it again", self.path.display());
                (self.socket, self.file, self.has_failed) = (socket, identity(&self.path), false);
            }
            Err(error) if !self.has_failed => {
                log::error!("the keeper's socket was removed and can't be made again; retrying every second: {error}");
                self.has_failed = true;
            }
            Err(_) => {}
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// A socket that listens at `path`. It is bound under another name until it listens, so that a process that finds the
/// file can connect.
fn bound(path: &Path) -> Result<OwnedFd, KeeperError> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).map_err(file_error(path))?;
    let unready = path.with_extension("unready");
    remove_if_there(&unready)?;
    let address = UnixAddr::new(&unready).map_err(file_error(path))?;
    bind(listener.as_raw_fd(), &address).map_err(file_error(path))?;
    Backlog::new(64).and_then(|backlog| listen(&listener, backlog)).map_err(file_error(path))?;
    std::fs::rename(&unready, path).map_err(file_error(path))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn can_connect(path: &Path) -> bool {
        let client = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
        nix::sys::socket::connect(client.as_raw_fd(), &UnixAddr::new(path).expect("short")).is_ok()
    }

    #[test]
    fn a_removed_file_comes_back_within_a_second() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keeper.sock");
        let mut listener = Listener::open(path.clone()).expect("listens");
        let first = identity(&path);
        listener.checked -= CHECK_EVERY;
        listener.keep();
        assert_eq!(identity(&path), first, "an intact file stays");
        std::fs::remove_file(&path).expect("it is there");
        listener.keep();
        assert!(!path.exists(), "checked again before a second has passed");
        listener.checked -= CHECK_EVERY;
        listener.keep();
        assert!(can_connect(&path));
        drop(listener);
        assert!(!path.exists());
    }
}
