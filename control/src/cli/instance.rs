//! Which instance a command is about.

use shunt_config::{Instance, runtime_directory};
use std::path::Path;

/// The variable that names the instance when the command line doesn't.
pub const VARIABLE: &str = "SHUNT_INSTANCE";

/// The environment names no instance.
#[derive(Debug, thiserror::Error)]
#[error("{VARIABLE}={value:?} {source}")]
pub struct VariableError {
    value: String,
    source: shunt_config::InstanceError,
}

/// The one on the command line; else the variable's; else the only one there is; else `shunt`.
pub fn choose(named: Option<Instance>) -> Result<Instance, VariableError> {
    if let Some(instance) = named {
        return Ok(instance);
    }
    if let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        let value = value.to_string_lossy().into_owned();
        return value.parse().map_err(|source| VariableError { value, source });
    }
    let own = runtime_directory(&Instance::default());
    Ok(own.parent().and_then(only_one).unwrap_or_default())
}

/// Every instance that has a directory.
pub fn list(root: &Path) -> Vec<Instance> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut names: Vec<Instance> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    names.sort();
    names
}

fn only_one(root: &Path) -> Option<Instance> {
    let [only] = <[Instance; 1]>::try_from(list(root)).ok()?;
    Some(only)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_directory_is_chosen_and_two_are_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(only_one(root.path()), None);
        std::fs::create_dir(root.path().join("lab")).unwrap();
        std::fs::create_dir(root.path().join("Not.One")).unwrap();
        assert_eq!(only_one(root.path()).unwrap().as_str(), "lab");
        std::fs::create_dir(root.path().join("other")).unwrap();
        assert_eq!(only_one(root.path()), None);
    }
}
