//! Reason and time of each checked backend's health, kept for a restarted control: shared memory contains only the health.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use log::warn;
use serde::{Deserialize, Serialize};
use shunt_config::document::read_text_up_to;
use shunt_process::{Instance, health_notes};

use super::{BackendKey, Health, HealthUpdate};
use crate::clock::Stopwatch;
use crate::state_file;
use shunt_process::duration;

/// Saving may take at most one part in this many of control's time: a large flapping pool must not keep it busy.
const PARTS_OF_TIME: u32 = 10;
/// Limit of the file's size; a check takes some hundred bytes.
const LIMIT_BYTES: u64 = 64 << 20;

/// The last change of health, and the last reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Whether it is up.
    pub up: bool,
    /// The check's last reason; for a backend that is up, the one that brought it up.
    pub reason: String,
    /// Wall-clock time, milliseconds since 1970.
    pub since_ms: u64,
}

/// An entry of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    service: String,
    backend: String,
    #[serde(flatten)]
    note: Note,
}

/// The last change of each check.
#[derive(Default)]
pub struct Notes {
    notes: BTreeMap<BackendKey, Note>,
    /// Incremented with each change.
    version: u64,
}

impl Notes {
    /// Takes over a predecessor's notes. If `health_of` contradicts a note, the predecessor ended before saving the change,
    /// whose time is unknown: `wall_ms` is the latest possible.
    pub fn recover(left: Left, health_of: impl Fn(&BackendKey) -> Health, wall_ms: u64) -> Self {
        let notes = left.0.into_iter().map(|Line { service, backend, note }| (BackendKey { service, backend }, note));
        let notes = notes.map(|(key, note)| match health_of(&key) == Health::Up {
            up if up == note.up => (key, note),
            up => (key, Note { up, reason: contradicted(up, &note.reason), since_ms: wall_ms }),
        });
        Self { notes: notes.collect(), version: 0 }
    }

    /// Adds a note for a check without one: a new one, or one that a predecessor did not save.
    pub fn begin(&mut self, key: &BackendKey, health: Health, wall_ms: u64) {
        if !self.notes.contains_key(key) {
            let (up, reason) = match health {
                Health::Up => (true, "counted as up at first, and stays so"),
                Health::Down => (false, "was down when control started, and its check has not ended yet"),
            };
            self.notes.insert(key.clone(), Note { up, reason: reason.to_owned(), since_ms: wall_ms });
            self.version += 1;
        }
    }

    /// Records a change at `wall_ms`, or a new reason for being down.
    pub fn add(&mut self, HealthUpdate { key, health, reason, .. }: HealthUpdate, wall_ms: u64) {
        let up = health == Health::Up;
        let same = self.notes.get(&key).filter(|note| note.up == up);
        let since_ms = same.map_or(wall_ms, |note| note.since_ms);
        self.notes.insert(key, Note { up, reason, since_ms });
        self.version += 1;
    }

    /// The note of a check.
    pub fn get(&self, key: &BackendKey) -> Option<&Note> {
        self.notes.get(key)
    }

    /// Removes notes of checks that no longer exist.
    pub fn retain(&mut self, is_checked: impl Fn(&BackendKey) -> bool) {
        let before = self.notes.len();
        self.notes.retain(|key, _| is_checked(key));
        self.version += u64::from(self.notes.len() != before);
    }

    fn lines(&self) -> Vec<Line> {
        let line = |(BackendKey { service, backend }, note): (&BackendKey, &Note)| Line {
            service: service.clone(),
            backend: backend.clone(),
            note: note.clone(),
        };
        self.notes.iter().map(line).collect()
    }
}

/// A predecessor's notes.
#[derive(Default)]
pub struct Left(Vec<Line>);

/// The file of notes.
pub struct NotesFile {
    path: PathBuf,
    /// The saved version.
    saved: u64,
    /// When the last save ended, and the pause after it.
    pause: Option<(Stopwatch, Duration)>,
    has_failed: bool,
}

impl NotesFile {
    /// The file of an instance.
    pub fn of(instance: &Instance) -> Self {
        Self::at(health_notes(instance))
    }

    fn at(path: PathBuf) -> Self {
        Self { path, saved: 0, pause: None, has_failed: false }
    }

    /// A file that cannot be read contains no notes.
    pub fn load(&self) -> Left {
        let text = read_text_up_to(&self.path, LIMIT_BYTES).ok();
        Left(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
    }

    /// Saves changes when due; must be called periodically.
    pub fn save(&mut self, notes: &Notes) {
        let is_paused = self.pause.as_ref().is_some_and(|(since, pause)| since.elapsed() < *pause);
        if self.saved == notes.version || is_paused {
            return;
        }
        let stopwatch = Stopwatch::start();
        self.write(notes);
        self.pause = Some((Stopwatch::start(), stopwatch.elapsed() * (PARTS_OF_TIME - 1)));
    }

    fn write(&mut self, notes: &Notes) {
        let written = serde_json::to_vec(&notes.lines()).map_err(Into::into);
        match written.and_then(|bytes| state_file::replace(&self.path, &bytes)) {
            Ok(()) => (self.saved, self.has_failed) = (notes.version, false),
            Err(error) => {
                if !std::mem::replace(&mut self.has_failed, true) {
                    let path = self.path.display();
                    warn!("{path}: {error}; a control that starts again won't know why backends are up or down");
                }
            }
        }
    }
}

fn contradicted(up: bool, reason: &str) -> String {
    let state = if up { "up" } else { "down" };
    format!("was {state} when control started (last known before: {reason})")
}

impl Note {
    /// Text for operators, relative to `wall_ms`.
    pub fn text(&self, wall_ms: u64) -> String {
        format!("{}, for {}", self.reason, duration(wall_ms.saturating_sub(self.since_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(backend: &str) -> BackendKey {
        BackendKey { service: "web".into(), backend: backend.into() }
    }

    fn report(backend: &str, health: Health) -> HealthUpdate {
        HealthUpdate { key: key(backend), health, is_change: true, reason: format!("{backend} is {health:?}") }
    }

    #[test]
    fn the_last_reason_stands_beside_the_first_time() {
        let mut notes = Notes::default();
        notes.add(report("b1", Health::Down), 1_000);
        notes.add(HealthUpdate { is_change: false, reason: "no answer".into(), ..report("b1", Health::Down) }, 9_000);
        assert_eq!(notes.get(&key("b1")), Some(&Note { up: false, reason: "no answer".into(), since_ms: 1_000 }));
        notes.add(report("b1", Health::Up), 10_000);
        assert_eq!(notes.get(&key("b1")).unwrap().since_ms, 10_000);
    }

    #[test]
    fn what_is_no_file_holds_no_notes_and_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("health.json");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(NotesFile::at(path).load().0.is_empty());
    }

    #[test]
    fn a_successor_knows_what_still_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("health.json");
        let (mut file, mut notes) = (NotesFile::at(path), Notes::default());
        for (backend, health) in [("b1", Health::Down), ("b2", Health::Down), ("b3", Health::Up), ("b4", Health::Down)]
        {
            notes.add(report(backend, health), 1_000);
        }
        notes.retain(|key| key.backend != "b4");
        file.save(&notes);
        // It came up, and control was killed before that was noted.
        let health_of = |key: &BackendKey| if key.backend == "b1" { Health::Down } else { Health::Up };
        let successor = Notes::recover(file.load(), health_of, 7_000);
        let note = Note { up: false, reason: "b1 is Down".into(), since_ms: 1_000 };
        assert_eq!(successor.get(&key("b1")), Some(&note));
        let changed = successor.get(&key("b2")).unwrap();
        assert_eq!((changed.up, changed.since_ms), (true, 7_000));
        assert_eq!(changed.text(9_000), "was up when control started (last known before: b2 is Down), for 2.0s");
        assert_eq!(successor.get(&key("b4")), None);
        assert!(successor.get(&key("b3")).is_some());
    }

    #[test]
    fn every_check_has_a_note_from_its_beginning_and_keeps_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("health.json");
        let (mut file, mut notes) = (NotesFile::at(path), Notes::default());
        notes.begin(&key("b1"), Health::Up, 1_000);
        notes.add(report("b2", Health::Down), 2_000);
        notes.begin(&key("b2"), Health::Down, 3_000);
        notes.begin(&key("b3"), Health::Down, 3_000);
        file.save(&notes);
        let health_of = |key: &BackendKey| if key.backend == "b1" { Health::Up } else { Health::Down };
        let successor = Notes::recover(file.load(), health_of, 60_000);
        let text = |backend| successor.get(&key(backend)).unwrap().text(61_000);
        assert_eq!(text("b1"), "counted as up at first, and stays so, for 1m00s");
        assert_eq!(text("b2"), "b2 is Down, for 59.0s");
        assert!(text("b3").starts_with("was down when control started"), "{}", text("b3"));
    }

    #[test]
    fn only_what_changed_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("health.json");
        let (mut file, mut notes) = (NotesFile::at(path.clone()), Notes::default());
        let mut is_written = |notes: &Notes| {
            file.pause = None;
            file.save(notes);
            std::fs::remove_file(&path).is_ok()
        };
        assert!(!is_written(&notes));
        notes.add(report("b1", Health::Down), 1);
        assert!(is_written(&notes) && !is_written(&notes));
        notes.retain(|_| true);
        assert!(!is_written(&notes));
        notes.retain(|_| false);
        assert!(is_written(&notes));
    }

    #[test]
    fn a_damaged_file_holds_no_notes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("health.json");
        for content in ["", "[{\"service\":\"web\"", "7", "[{}]"] {
            std::fs::write(&path, content).unwrap();
            assert!(NotesFile::at(path.clone()).load().0.is_empty(), "{content}");
        }
    }
}
