//! Which instance a command is about.

use shunt_config::{Instance, instances};

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
    Ok(only_one(instances()).unwrap_or_default())
}

fn only_one(instances: Vec<Instance>) -> Option<Instance> {
    let [only] = <[Instance; 1]>::try_from(instances).ok()?;
    Some(only)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_instance_is_chosen_and_two_are_none() {
        let named = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<Instance>>();
        assert_eq!(only_one(Vec::new()), None);
        assert_eq!(only_one(named(&["lab"])).unwrap().as_str(), "lab");
        assert_eq!(only_one(named(&["lab", "other"])), None);
    }
}
