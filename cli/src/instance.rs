//! Which instance a command is about.

use shunt_instances::present;
use shunt_process::{Instance, InstanceError};

/// The variable that names the instance when the command line doesn't.
pub const VARIABLE: &str = "SHUNT_INSTANCE";

/// Why it isn't clear.
#[derive(Debug, thiserror::Error)]
pub enum InstanceChoiceError {
    /// The environment names no instance.
    #[error("{VARIABLE}={value:?} {source}")]
    Variable {
        /// What it says.
        value: String,
        /// Why it is none.
        source: InstanceError,
    },
    /// Nobody said which.
    #[error("there are several instances: {}; say which with --instance NAME, or {VARIABLE}", list(.0))]
    Several(Vec<Instance>),
}

/// The one on the command line; else the variable's; else the only one there is; else `shunt`, unless there are others
/// alone.
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
