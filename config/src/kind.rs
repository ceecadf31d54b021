//! Distinguishes the two programs' TOML files: a file for the wrong program would otherwise be refused key by key.

use toml::de::DeTable;

use crate::error::ConfigError;

/// The programs with such a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Keeper, control and `shunt`.
    Shunt,
    /// `shunt-agent`.
    Agent,
}

/// Top-level tables and keys that only one of the two files has.
const OF_SHUNT: [&str; 3] = ["switchers", "interface", "service"];
const OF_AGENT: [&str; 3] = ["control", "key_file", "backend"];

/// Refuses a file that clearly belongs to the other program.
pub fn refuse_other_kind(document: &DeTable<'_>, file: &str, wanted: FileKind) -> Result<(), ConfigError> {
    let has = |keys: [&str; 3]| keys.iter().any(|key| document.contains_key(*key));
    match (wanted, has(OF_SHUNT), has(OF_AGENT)) {
        (FileKind::Shunt, false, true) => Err(ConfigError::AgentsFile { file: file.to_owned() }),
        (FileKind::Agent, true, false) => Err(ConfigError::ShuntsFile { file: file.to_owned() }),
        _ => Ok(()),
    }
}
