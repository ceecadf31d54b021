//! The epoch of this agent run, greater than that of every earlier run: control refuses reports of an earlier run as
//! replayed. It is the start time; a file persists it where the clock is unreliable.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Why the epoch cannot be determined.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    /// The file cannot be read or written.
    #[error("{0}; make its folder, or name a file in one where the agent may write")]
    File(#[from] io::Error),
    /// The file does not contain a number.
    #[error("holds no number; it isn't the agent's file, or it was damaged: remove it")]
    NotANumber,
}

impl EpochError {
    /// Returns true if a restart would fail the same way.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::File(error) => is_refusal(error),
            Self::NotANumber => true,
        }
    }
}

/// Returns true if a file error lasts until the configuration or the directory changes.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), NotFound | NotADirectory | IsADirectory | PermissionDenied | ReadOnlyFilesystem)
}

/// The epoch of a run that starts now, from the clock alone.
pub fn of_clock() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)
}

/// The epoch of a run that starts at `clock`: greater than the one in `file`, which it replaces.
pub fn begin(file: &Path, clock: u64) -> Result<u64, EpochError> {
    let last: u64 = match fs::read_to_string(file) {
        Ok(text) => text.trim().parse().map_err(|_| EpochError::NotANumber)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error.into()),
    };
    let epoch = clock.max(last.saturating_add(1));
    // Atomic, even across a power failure.
    let new = file.with_extension("new");
    let mut written = File::create(&new)?;
    writeln!(written, "{epoch}")?;
    written.sync_all()?;
    fs::rename(&new, file)?;
    Ok(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_has_a_greater_one_whatever_the_clock_says() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("epoch");
        assert_eq!(begin(&file, 1000).unwrap(), 1000);
        assert_eq!(begin(&file, 10).unwrap(), 1001, "the clock was set back");
        assert_eq!(begin(&file, 1001).unwrap(), 1002);
        assert_eq!(begin(&file, 5000).unwrap(), 5000);
        fs::write(&file, "x").unwrap();
        assert!(matches!(begin(&file, 6000), Err(EpochError::NotANumber)));
        let error = begin(&folder.path().join("missing/epoch"), 1000).unwrap_err();
        assert!(error.is_refusal() && error.to_string().contains("; make its folder, or name a file"), "{error}");
        assert!(of_clock() > 1_700_000_000_000_000);
    }
}
