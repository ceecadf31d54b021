//! The number of this run of the agent, greater than that of each run before: control takes reports of an earlier run for
//! repetitions. It is the time of the start; a file remembers it where clocks can't be relied on.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Why the last run isn't known.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    /// The file can't be read or written.
    #[error("{0}; make its folder, or name a file in one where the agent may write")]
    File(#[from] io::Error),
    /// The file holds something else.
    #[error("holds no number; it isn't the agent's file, or it was damaged: remove it")]
    NotANumber,
}

impl EpochError {
    /// Whether another start would end the same way.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::File(error) => is_refusal(error),
            Self::NotANumber => true,
        }
    }
}

/// Whether an error of a file lasts until somebody changes the configuration or the folder.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), NotFound | NotADirectory | IsADirectory | PermissionDenied | ReadOnlyFilesystem)
}

/// The epoch of a run that starts now, without a memory of earlier ones.
pub fn of_clock() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)
}

/// The epoch of a run that starts when the clock says `clock`, greater than the one in `file`, where it is noted.
pub fn begin(file: &Path, clock: u64) -> Result<u64, EpochError> {
    let last: u64 = match fs::read_to_string(file) {
        Ok(text) => text.trim().parse().map_err(|_| EpochError::NotANumber)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error.into()),
    };
    let epoch = clock.max(last.saturating_add(1));
    // Whole or not at all, also where the machine loses its power in between.
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
