//! Lock files that their holder may remove, and how to tell whether a path still names the locked file.

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Identity of a file: device and inode.
pub fn inode(found: io::Result<Metadata>) -> Option<(u64, u64)> {
    found.map(|found| (found.dev(), found.ino())).ok()
}

/// Whether the path still names this file.
pub fn is_at(file: &File, path: &Path) -> bool {
    let held = inode(file.metadata());
    held.is_some() && held == inode(std::fs::metadata(path))
}

/// Opens and locks the file at `path`. Creates the file, and its directory with mode 0700, if missing. Returns the unlocked
/// file if another process holds the lock and `how` is non-blocking.
pub fn open_locked(path: &Path, how: FlockArg) -> io::Result<Result<Flock<File>, File>> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    loop {
        match Flock::lock(options.open(path)?, how) {
            Ok(locked) if is_at(&locked, path) => return Ok(Ok(locked)),
            // Its last holder removed it between open and lock: the next open creates a new file.
            Ok(_) => {}
            Err((file, Errno::EWOULDBLOCK)) => return Ok(Err(file)),
            Err((_, errno)) => return Err(errno.into()),
        }
    }
}
