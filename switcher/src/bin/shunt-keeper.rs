//! `shunt-keeper`: makes memory, opens queues, loads the XDP program, hands descriptors to switchers and keeps copies.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use shunt_config::{Config, ConfigError, LockError};
use shunt_switcher::keeper::KeeperError;

/// EX_CONFIG of sysexits.h: starting again would change nothing.
const REFUSED: u8 = 78;

/// Shunt's privileged process: makes the shared memory, opens the interface queues and hands them to the switchers.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    match run(&arguments.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error:#}");
            ExitCode::from(if is_refusal(&error) { REFUSED } else { 1 })
        }
    }
}

fn run(path: &Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    shunt_switcher::keeper::run(config).context("shunt-keeper did not start")
}

/// Whether the configuration or the machine has to change first.
fn is_refusal(error: &anyhow::Error) -> bool {
    let refusal = error.downcast_ref::<KeeperError>();
    error.is::<ConfigError>()
        || matches!(refusal, Some(KeeperError::Lock(LockError::Held { .. }) | KeeperError::Problems(_)))
}
