//! Keeps the configuration that was accepted last (`shunt_instances::accepted`) for a successor of control that finds the
//! file on disk bad: health checks, agents and feedback go on by it. Whatever is wrong with what was kept makes it
//! worthless: then the file on disk alone counts.

use std::path::{Path, PathBuf};

use log::warn;
use shunt_instances::accepted::with_origin;
use shunt_process::{Instance, accepted_configuration};

use crate::state_file;
use shunt_publish::candidate::Document;

/// How soon saving is tried again.
const RETRY_MS: u64 = 1000;

/// The saved configuration of one instance.
pub struct Accepted {
    path: PathBuf,
    /// What is still to be written.
    unsaved: Option<String>,
    not_before_ms: u64,
}

impl Accepted {
    /// That of an instance.
    pub fn of(instance: &Instance) -> Self {
        Self::at(accepted_configuration(instance))
    }

    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path, unsaved: None, not_before_ms: 0 }
    }

    /// What a predecessor saved, if it is whole.
    pub fn load(&self) -> Option<Document> {
        Document::read(&self.path)
            .inspect_err(|error| warn!("the configuration accepted last is not to be had: {error}"))
            .ok()
    }

    /// Saves what is accepted now, from the file at `origin`.
    pub fn save(&mut self, text: &str, origin: &Path, now_ms: u64) {
        self.unsaved = Some(with_origin(text, origin));
        self.not_before_ms = 0;
        self.retry(now_ms);
    }

    /// Writes what couldn't be written before; must be called now and then.
    pub fn retry(&mut self, now_ms: u64) {
        let Some(text) = self.unsaved.as_ref().filter(|_| now_ms >= self.not_before_ms) else { return };
        match state_file::replace(&self.path, text.as_bytes()) {
            Ok(()) => self.unsaved = None,
            Err(error) => {
                if self.not_before_ms == 0 {
                    let path = self.path.display();
                    warn!("{path}: {error}; a control that starts again needs a good configuration file; trying on");
                }
                self.not_before_ms = now_ms + RETRY_MS;
            }
        }
    }

    /// Whether a successor would find it.
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
