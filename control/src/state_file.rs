//! Files in the instance's directory that control leaves for its successor.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Replaces a file, readable by its owner only. A reader gets the old or the new content, complete. After a failure the old
/// file is removed too, because it is out of date.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let written = write(&new, content).and_then(|()| fs::rename(&new, path));
    written.inspect_err(|_| {
        // A missing file need not be removed.
        let _ = fs::remove_file(&new);
        let _ = fs::remove_file(path);
    })
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    // A plain open of a FIFO would block until a reader opens it.
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(nix::libc::O_NONBLOCK);
    let mut file = options.open(path)?;
    file.write_all(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn content_is_replaced_whole_and_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.toml");
        fs::write(path.with_extension("new"), "what a predecessor that was killed left behind").unwrap();
        for content in ["first", "2"] {
            replace(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_fifo_in_the_way_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.toml");
        nix::unistd::mkfifo(&path.with_extension("new"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(replace(&path, b"first").is_err());
        replace(&path, b"second").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
    }

    /// As where there is no room: /dev/full takes no byte.
    #[test]
    fn what_cannot_be_written_leaves_nothing_out_of_date() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.toml");
        replace(&path, b"old").unwrap();
        std::os::unix::fs::symlink("/dev/full", path.with_extension("new")).unwrap();
        assert_eq!(replace(&path, b"new").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
