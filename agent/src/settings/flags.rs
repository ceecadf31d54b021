//! The command line: a file, or flags for what most servers need.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser};
use shunt_config::ConfigError;

use super::{Backend, Control, Page, Settings};
use shunt_report::{AgentKey, ConfigName, KeyError, MOST_LOADS, PERIOD_MS};

/// Measures a back-end server's load and reports it to shunt-control, or to HAProxy.
#[derive(Debug, Parser)]
#[command(name = "shunt-agent", version, group = ArgGroup::new("how").args(["config", "name"]).required(true))]
pub struct Arguments {
    /// The TOML file that says all; deploy/examples/agent.toml has every key.
    #[arg(long, value_name = "FILE", exclusive = true)]
    config: Option<PathBuf>,
    /// This agent's name, as in control's configuration.
    #[arg(long, requires_all = ["control", "key_file", "backends"])]
    name: Option<ConfigName>,
    /// Where control takes reports: its feedback.listen.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = parse_control)]
    control: Option<SocketAddr>,
    /// The secret that control has for this agent, 32 bytes or more.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// A back-end of this server and the TCP port on which it serves; may be repeated.
    #[arg(long = "backend", value_name = "NAME=PORT", value_parser = parse_backend)]
    backends: Vec<(ConfigName, u16)>,
    /// Another network namespace serves the back-ends' ports, as with containers: the agent can't see who listens.
    #[arg(long, requires = "name")]
    listener_elsewhere: bool,
    /// A report at the latest after so many milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 50, value_parser = clap::value_parser!(u16).range(i64::from(*PERIOD_MS.start())..=i64::from(*PERIOD_MS.end())))]
    period_ms: u16,
    /// nginx's stub_status of the first back-end.
    #[arg(long, value_name = "ADDRESS:PORT/PATH", value_parser = parse_page)]
    nginx: Option<Page>,
}

/// Why the command line is invalid.
#[derive(Debug, thiserror::Error)]
pub enum FlagError {
    /// The file is invalid.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// The key cannot be used.
    #[error("--key-file {0}: {1}")]
    AgentKey(PathBuf, KeyError),
    /// More than a report can contain.
    #[error("--backend: {0} of them, {MOST_LOADS} at the most; run a second agent for the others")]
    TooMany(usize),
    /// Incomplete options; clap normally rejects them.
    #[error("--name, --control and --key-file belong together")]
    Incomplete,
}

impl Arguments {
    /// Reads the settings from the flags or from the file.
    pub fn settings(self) -> Result<Settings, FlagError> {
        if let Some(file) = self.config {
            return Ok(Settings::load(&file)?);
        }
        let (Some(name), Some(address), Some(file)) = (self.name, self.control, self.key_file) else {
            return Err(FlagError::Incomplete);
        };
        if self.backends.len() > MOST_LOADS {
            return Err(FlagError::TooMany(self.backends.len()));
        }
        let key = AgentKey::load(&file).map_err(|error| FlagError::AgentKey(file, error))?;
        let period = Duration::from_millis(self.period_ms.into());
        let mut backends: Vec<Backend> =
            self.backends.into_iter().map(|(name, port)| plain(name, port, self.listener_elsewhere)).collect();
        if let Some(first) = backends.first_mut() {
            first.nginx = self.nginx;
        }
        Ok(Settings {
            name,
            control: Some(Control { address, key }),
            period,
            look_interval: period.min(Duration::from_millis(50)),
            sharp_permille: 500,
            epoch_file: None,
            statsd_socket: None,
            backends,
        })
    }
}

fn plain(name: ConfigName, port: u16, is_elsewhere: bool) -> Backend {
    Backend {
        name,
        port,
        is_tcp: true,
        is_elsewhere,
        capacity: None,
        workers: None,
        cgroup: None,
        drain_file: None,
        agent_check: None,
        nginx: None,
        prometheus: None,
        command: None,
        statsd: None,
    }
}

fn parse_control(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an address and a port, for example 198.18.1.1:7946".to_owned())
}

fn parse_backend(text: &str) -> Result<(ConfigName, u16), String> {
    let (name, port) = text.split_once('=').ok_or("write a name, '=' and a port, for example b1=8080")?;
    let name = name.parse().map_err(|error| format!("{name:?} {error}"))?;
    match port.parse() {
        Ok(0) | Err(_) => Err(format!("{port:?} is not a port; write 1 to 65535")),
        Ok(port) => Ok((name, port)),
    }
}

fn parse_page(text: &str) -> Result<Page, String> {
    let (address, path) =
        text.split_once('/').ok_or("write an address, a port and a path, for example 127.0.0.1:8081/stub_status")?;
    let address: SocketAddr = address.parse().map_err(|_| format!("{address:?} is not an address and port"))?;
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a path has neither spaces nor letters beyond ASCII".to_owned());
    }
    Ok(Page { address, path: format!("/{path}"), host: address.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_without_address_or_port_is_refused_with_what_to_write() {
        assert!(parse_control("198.18.1.1:7946").is_ok());
        for text in ["y", "198.18.1.1"] {
            assert!(parse_control(text).unwrap_err().contains("write an address and a port"), "{text}");
        }
    }
}
