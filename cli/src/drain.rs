//! `shunt drain` and `shunt enable`: for back-ends by name, and for whole hosts.

use super::admin::{AdminError, change};
use super::output::{Report, json, write};
use serde::Serialize;
use shunt_process::Instance;
use shunt_protocol::admin::{Accepted, Command, Selection};
use std::net::IpAddr;

/// Selects backends.
#[derive(Debug, Clone, clap::Args)]
#[command(group = clap::ArgGroup::new("which").args(["backends", "hosts"]).required(true).multiple(true))]
pub struct Selected {
    /// Their names.
    #[arg(value_name = "BACKEND")]
    backends: Vec<String>,
    /// All back-ends of this address; may be given several times.
    #[arg(long = "host", value_name = "ADDRESS", value_parser = address)]
    hosts: Vec<IpAddr>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn address(text: &str) -> Result<IpAddr, &'static str> {
    text.parse()
        .map_err(|_| "write the whole address of a back-end's host, as 198.18.1.11; names and networks aren't taken")
}

/// Result of a command.
#[derive(Debug, Serialize)]
pub struct DrainReport {
    /// `drained` or `enabled`.
    pub state: &'static str,
    /// Names of the back-ends.
    pub backends: Vec<String>,
    /// The configuration epoch from which it is in force.
    pub epoch: u64,
}

/// Drains the selected backends, all of them or none.
pub fn drain(instance: &Instance, selected: Selected) -> anyhow::Result<()> {
    set(instance, Command::Drain, "drained", selected)
}

/// Enables the selected backends, all of them or none.
pub fn enable(instance: &Instance, selected: Selected) -> anyhow::Result<()> {
    set(instance, Command::Enable, "enabled", selected)
}

fn set(
    instance: &Instance,
    command: fn(Selection) -> Command,
    state: &'static str,
    selected: Selected,
) -> anyhow::Result<()> {
    let Selected { backends, hosts, json: as_json } = selected;
    let (Accepted::Changed { backends }, epoch) = change(instance, &command(Selection { backends, hosts }))? else {
        return Err(AdminError::Unintelligible(instance.clone()).into());
    };
    let report = DrainReport { state, backends, epoch };
    write(&if as_json { json(&report)? } else { report.text() })?;
    Ok(())
}

impl Report for DrainReport {
    fn text(&self) -> String {
        let verb = if self.backends.len() == 1 { "is" } else { "are" };
        format!("{} {verb} {}\n", self.backends.join(", "), self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_says_what_was_drained() {
        let report = |names: &[&str]| DrainReport {
            state: "drained",
            backends: names.iter().map(|&name| name.to_owned()).collect(),
            epoch: 8,
        };
        assert_eq!(report(&["b1"]).text(), "b1 is drained\n");
        assert_eq!(report(&["b1", "b1-echo"]).text(), "b1, b1-echo are drained\n");
        let value = serde_json::to_value(report(&["b1"])).unwrap();
        assert_eq!(value, json!({ "state": "drained", "backends": ["b1"], "epoch": 8 }));
    }
}
