//! `shunt-keeper`: makes memory, opens queues, loads the XDP program, hands descriptors to switchers and keeps copies.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use shunt_config::{Config, ConfigError};
use shunt_instances::running_configuration;
use shunt_keeper::KeeperError;
use shunt_process::{give_up, start_log};

/// Shunt's privileged process: makes the shared memory, opens the interface queues and hands them to the switchers.
#[derive(Parser)]
#[command(name = "shunt-keeper", version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log(true);
    match run(&arguments.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => give_up("shunt-keeper", format_args!("{error:#}"), is_refusal(&error)),
    }
}

fn run(path: &Path) -> anyhow::Result<()> {
    Ok(shunt_keeper::run(configuration(path)?)?)
}

/// The configuration that a running instance accepted last, because its switchers need a keeper whatever is on disk;
/// otherwise the file on disk.
fn configuration(path: &Path) -> Result<Config, ConfigError> {
    choose(Config::load(path), running_configuration(path))
}

fn choose(
    file: Result<Config, ConfigError>,
    running: Option<Result<Config, ConfigError>>,
) -> Result<Config, ConfigError> {
    match (file, running) {
        (file, None) => file,
        (Ok(_), Some(Ok(running))) => Ok(running),
        (Err(refusal), Some(Ok(running))) => {
            log::error!("the configuration file is refused, going on with the one accepted last:\n{refusal}");
            Ok(running)
        }
        (file, Some(Err(error))) => {
            log::error!("the configuration accepted last can't be used, going on with the file:\n{error}");
            file
        }
    }
}

/// Whether a restart would fail until the configuration or the machine changes.
fn is_refusal(error: &anyhow::Error) -> bool {
    error.is::<ConfigError>()
        || error.downcast_ref().is_some_and(|error| match error {
            KeeperError::Lock(error) => error.is_refusal(),
            other => matches!(other, KeeperError::Problems(_)),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(count: u32) -> Result<Config, ConfigError> {
        let text = format!("[switchers]\ncount = {count}\n[[interface]]\nname = \"a\"\n");
        Config::parse(&text, "test.toml")
    }

    #[test]
    fn what_runs_goes_before_the_file_and_the_file_before_nothing() {
        let count = |chosen: Result<Config, ConfigError>| chosen.ok().map(|config| config.switchers.cpus.count());
        assert_eq!(count(choose(config(1), None)), Some(1));
        assert_eq!(count(choose(config(1), Some(config(2)))), Some(2));
        assert_eq!(count(choose(config(0), Some(config(2)))), Some(2));
        assert_eq!(count(choose(config(1), Some(config(0)))), Some(1));
        assert_eq!(count(choose(config(0), Some(config(0)))), None);
    }
}
