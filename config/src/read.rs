//! Reads a path into a parsed TOML document, refusing anything but a text file first.

use std::fs::{File, FileType, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use toml::Spanned;
use toml::de::DeTable;

use crate::duplicate;
use crate::error::ConfigError;

/// Size limit of a file. Ten thousand back-ends take about 1 MiB.
const LIMIT_BYTES: u64 = 4 << 20;

/// The whole text of a regular file, up to the size limit of a configuration.
pub fn read_text(path: &Path) -> Result<String, ConfigError> {
    read_text_up_to(path, LIMIT_BYTES)
}

/// The whole text of a regular file, up to `limit_bytes` bytes.
pub fn read_text_up_to(path: &Path, limit_bytes: u64) -> Result<String, ConfigError> {
    let name = path.display().to_string();
    let unreadable = |source| ConfigError::Unreadable { file: name.clone(), source };
    let file = open(path).map_err(unreadable)?;
    let kind = file.metadata().map_err(unreadable)?.file_type();
    if !kind.is_file() {
        return Err(ConfigError::NotAFile { file: name, kind: describe(kind) });
    }
    let mut bytes = Vec::new();
    file.take(limit_bytes + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > limit_bytes {
        return Err(ConfigError::TooLarge { file: name, limit_bytes });
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        ConfigError::NotUtf8 { file: name, line: count_lines(good) }
    })
}

/// Opens without blocking: a plain open of a FIFO waits for a writer.
fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits()).open(path)
}

fn describe(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "directory"
    } else if kind.is_fifo() {
        "FIFO"
    } else if kind.is_char_device() || kind.is_block_device() {
        "device"
    } else {
        "special file"
    }
}

/// Number (from 1) of the line that follows `before`.
fn count_lines(before: &[u8]) -> usize {
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}

/// The TOML document in `text`, with the place of every key and value.
pub fn parse_document<'t>(text: &'t str, file: &str) -> Result<Spanned<DeTable<'t>>, ConfigError> {
    if text.trim_start_matches('\u{feff}').trim().is_empty() {
        return Err(ConfigError::Empty { file: file.to_owned() });
    }
    DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(text.len(), |span| span.start);
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = count_lines(before.as_bytes());
        let explained = if error.message() == "duplicate key" { duplicate::explain(text, line) } else { None };
        let (message, mend) = explained
            .unwrap_or_else(|| (error.message().to_owned(), "mend the line, or save the file whole".to_owned()));
        let column = 1 + before[line_start..].chars().count();
        ConfigError::Syntax { file: file.to_owned(), line, column, message, mend }
    })
}
