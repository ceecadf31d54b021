//! Reads the kernel's files below `/` or, in tests, below another directory.

use std::path::{Path, PathBuf};

/// The root directory for reading.
pub struct Files {
    root: PathBuf,
}

impl Files {
    /// Reads this machine's files.
    pub fn of_machine() -> Self {
        Self::below(Path::new("/"))
    }

    /// Reads below a directory.
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The path of a file, given without the leading `/`.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A file's trimmed text; `None` if it cannot be read.
    pub fn text(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.path(path)).ok().map(|text| text.trim().to_owned())
    }

    /// The number in a file.
    pub fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// Names in a directory; empty if it does not exist.
    pub fn list(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// A value of `/proc/self/status`, as `CapEff`.
    pub fn own_status(&self, field: &str) -> Option<String> {
        let status = self.text("proc/self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.map(|value| value.trim().to_owned())
    }
}

/// CPUs of a kernel list, as `0-3,8`.
pub fn cpu_list(text: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<u32>().ok()?..=last.trim().parse().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(cpu_list("0-2,5"), [0, 1, 2, 5]);
        assert!(cpu_list("").is_empty());
        assert!(cpu_list("(null)").is_empty());
    }
}
