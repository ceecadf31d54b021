//! Selects the instance of a command.

use shunt_instances::present;
use shunt_process::{Instance, InstanceError};

/// The environment variable that names the instance, if the command line does not.
pub const VARIABLE: &str = "SHUNT_INSTANCE";

/// Why no instance could be selected.
#[derive(Debug, thiserror::Error)]
pub enum InstanceChoiceError {
    /// The variable's value is not an instance name.
    #[error("{VARIABLE}={value:?} {source}")]
    Variable {
        /// The variable's value.
        value: String,
        /// Why it is invalid.
        source: InstanceError,
    },
    /// Several instances exist, and none was named.
    #[error("there are several instances: {}; say which with --instance NAME, or {VARIABLE}", list(.0))]
    Several(Vec<Instance>),
}

/// The instance named on the command line, or by the variable; otherwise the only existing one; otherwise `shunt`, unless
/// there are only others.
pub fn choose(named: Option<Instance>) -> Result<Instance, InstanceChoiceError> {
    if let Some(instance) = named {
        return Ok(instance);
    }
    if let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        let value = value.to_string_lossy().into_owned();
        return value.parse().map_err(|source| InstanceChoiceError::Variable { value, source });
    }
    choose_from(present())
}

fn choose_from(all: Vec<Instance>) -> Result<Instance, InstanceChoiceError> {
    let default = Instance::default();
    match &all[..] {
        [only] => Ok(only.clone()),
        [_, ..] if !all.contains(&default) => Err(InstanceChoiceError::Several(all)),
        _ => Ok(default),
    }
}

fn list(instances: &[Instance]) -> String {
    instances.iter().map(Instance::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str]) -> Result<String, String> {
        let all = names.iter().map(|name| name.parse().unwrap()).collect();
        choose_from(all).map(|instance| instance.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn one_of_several_is_not_guessed() {
        assert_eq!(chosen(&[]), Ok("shunt".into()));
        assert_eq!(chosen(&["lab"]), Ok("lab".into()));
        assert_eq!(chosen(&["lab", "shunt"]), Ok("shunt".into()));
        let said = "there are several instances: lab, other; say which with --instance NAME, or SHUNT_INSTANCE";
        assert_eq!(chosen(&["lab", "other"]), Err(said.into()));
    }
}
