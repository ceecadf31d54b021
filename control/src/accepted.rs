//! Saves the last accepted configuration (`shunt_instances::accepted`) for a restarted control that finds an invalid file
//! on disk: health checks, agents and feedback continue with it. If the saved file is invalid in any way, it is ignored,
//! and only the file on disk counts.

use std::path::{Path, PathBuf};

use log::warn;
use shunt_instances::accepted::with_origin;
use shunt_process::{Instance, accepted_configuration};

use crate::state_file;
use shunt_publish::candidate::Document;

/// Interval between retries of saving.
const RETRY_MS: u64 = 1000;

/// The saved configuration of one instance.
pub struct Accepted {
    path: PathBuf,
    /// The text still to be written.
    unsaved: Option<String>,
    not_before_ms: u64,
}

impl Accepted {
    /// The file of an instance.
    pub fn of(instance: &Instance) -> Self {
        Self::at(accepted_configuration(instance))
    }

    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path, unsaved: None, not_before_ms: 0 }
    }

    /// A predecessor's configuration, if it is complete.
    pub fn load(&self) -> Option<Document> {
        Document::read(&self.path)
            .inspect_err(|error| warn!("the last accepted configuration cannot be read: {error}"))
            .ok()
    }

    /// Saves the accepted configuration from the file at `origin`.
    pub fn save(&mut self, text: &str, origin: &Path, now_ms: u64) {
        self.unsaved = Some(with_origin(text, origin));
        self.not_before_ms = 0;
        self.retry(now_ms);
    }

    /// Retries a failed write; must be called periodically.
    pub fn retry(&mut self, now_ms: u64) {
        let Some(text) = self.unsaved.as_ref().filter(|_| now_ms >= self.not_before_ms) else { return };
        match state_file::replace(&self.path, text.as_bytes()) {
            Ok(()) => self.unsaved = None,
            Err(error) => {
                if self.not_before_ms == 0 {
                    let path = self.path.display();
                    warn!("{path}: {error}; a control that starts again needs a valid configuration file; retrying");
                }
                self.not_before_ms = now_ms + RETRY_MS;
            }
        }
    }

    /// Returns true if a successor would find it.
    pub fn is_saved(&self) -> bool {
        self.unsaved.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const TEXT: &str = "[switchers]\ncount = 1\n[[interface]]\nname = \"eth0\"\n\n";

    fn in_folder(folder: &Path) -> Accepted {
        Accepted::at(folder.join("accepted.toml"))
    }

    fn document(folder: &Path) -> Document {
        let path = folder.join("shunt.toml");
        fs::write(&path, TEXT).unwrap();
        Document::read(&path).unwrap()
    }

    #[test]
    fn what_is_saved_is_read_with_the_same_lines() {
        let folder = tempfile::tempdir().unwrap();
        let (mut accepted, document) = (in_folder(folder.path()), document(folder.path()));
        accepted.save(&document.text, Path::new("/etc/shunt/shunt.toml"), 0);
        assert!(accepted.is_saved());
        let loaded = accepted.load().unwrap();
        assert_eq!(loaded.config.switchers, document.config.switchers);
        assert_eq!(loaded.text.lines().last(), Some("# accepted from /etc/shunt/shunt.toml"));
        assert_eq!(loaded.config.source.problem("interface.eth0", "x").line, 3);
    }

    #[test]
    fn without_room_it_is_tried_on_and_nothing_old_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let (mut accepted, document) = (in_folder(folder.path()), document(folder.path()));
        accepted.save(&document.text, Path::new("/a"), 0);
        let new = accepted.path.with_extension("new");
        std::os::unix::fs::symlink("/dev/full", &new).unwrap();
        accepted.save(&document.text, Path::new("/b"), 5);
        assert!(!accepted.is_saved() && accepted.load().is_none());
        accepted.retry(5 + RETRY_MS - 1);
        assert!(!accepted.is_saved());
        accepted.retry(5 + RETRY_MS);
        assert!(accepted.is_saved() && accepted.load().unwrap().text.ends_with("# accepted from /b\n"));
    }

    #[test]
    fn half_a_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let accepted = in_folder(folder.path());
        fs::write(&accepted.path, &TEXT[..TEXT.len() - 6]).unwrap();
        assert!(accepted.load().is_none());
    }
}
