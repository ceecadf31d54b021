//! Files that are locked, and may be removed by their holder: which file is it that a path leads to?

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// What tells a file from all others: device and inode.
pub fn inode(found: io::Result<Metadata>) -> Option<(u64, u64)> {
    found.map(|found| (found.dev(), found.ino())).ok()
}

/// Whether the path still leads to this file.
pub fn is_at(file: &File, path: &Path) -> bool {
    let held = inode(file.metadata());
    held.is_some() && held == inode(std::fs::metadata(path))
}

/// Opens the file at the path, made if need be in a directory that is closed to others, and locks it. The file without a
/// lock where another process has it and `how` doesn't wait.
pub fn open_locked(path: &Path, how: FlockArg) -> io::Result<Result<Flock<File>, File>> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    loop {
        match Flock::lock(options.open(path)?, how) {
            Ok(locked) if is_at(&locked, path) => return Ok(Ok(locked)),
            // Its last holder removed it between the opening and the locking: the next to open makes another.
            Ok(_) => {}
            Err((file, Errno::EWOULDBLOCK)) => return Ok(Err(file)),
            Err((_, errno)) => return Err(errno.into()),
        }
    }
}
