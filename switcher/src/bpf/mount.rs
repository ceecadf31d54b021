//! A bpffs of the instance's own. Not the one below /sys: `ip netns exec` mounts a new /sys, and pins there would be lost
//! from sight.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::RedirectError;

fn file_error(path: &Path, error: impl Into<std::io::Error>) -> RedirectError {
    RedirectError::File { path: path.to_owned(), error: error.into() }
}

/// Makes `path` a bpffs, unless it is one.
pub fn mount(path: &Path) -> Result<(), RedirectError> {
    std::fs::create_dir_all(path).map_err(|error| file_error(path, error))?;
    let system = statfs(path).map_err(|errno| file_error(path, errno))?;
    if system.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    nix::mount::mount(Some("bpffs"), path, Some("bpf"), flags, Some("mode=0700"))
        .map_err(|errno| file_error(path, errno))
}

/// Undoes [`mount`]; what is still pinned goes with it.
pub fn unmount(path: &Path) -> Result<(), RedirectError> {
    umount2(path, MntFlags::MNT_DETACH).map_err(|errno| file_error(path, errno))?;
    std::fs::remove_dir(path).map_err(|error| file_error(path, error))
}
