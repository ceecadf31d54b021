//! A bpffs of the instance's own. Not the one below /sys: `ip netns exec` mounts a new /sys, and pins there would be lost
//! from sight.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::RedirectError;

fn file_error(path: &Path, error: impl Into<std::io::Error>) -> RedirectError {
    RedirectError::File { path: path.to_owned(), error: error.into() }
}

/// Whether `path` is a bpffs, as seen from this mount namespace.
pub fn is_bpffs(path: &Path) -> Result<bool, RedirectError> {
    match statfs(path) {
        Ok(system) => Ok(system.filesystem_type() == BPF_FS_MAGIC),
        Err(nix::Error::ENOENT) => Ok(false),
        Err(errno) => Err(file_error(path, errno)),
    }
}

/// Makes `path` a bpffs, unless it is one.
pub fn mount(path: &Path) -> Result<(), RedirectError> {
    if is_bpffs(path)? {
        return Ok(());
    }
    std::fs::create_dir_all(path).map_err(|error| file_error(path, error))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    nix::mount::mount(Some("bpffs"), path, Some("bpf"), flags, Some("mode=0700"))
        .map_err(|errno| file_error(path, errno))
}

/// Undoes [`mount`], if it was done; what is still pinned goes with it, so that programs are detached.
pub fn unmount(path: &Path) -> Result<(), RedirectError> {
    if is_bpffs(path)? {
        umount2(path, MntFlags::MNT_DETACH).map_err(|errno| file_error(path, errno))?;
    }
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(file_error(path, error)),
        _ => Ok(()),
    }
}
