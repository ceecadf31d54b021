//! `shunt-keeper`: makes memory, opens queues, loads the XDP program, hands descriptors to switchers and keeps copies.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use shunt_config::Config;

/// Shunt's privileged process: makes the shared memory, opens the interface queues and hands them to the switchers.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let config = Config::load(&arguments.config)?;
    shunt_switcher::keeper::run(config).context("shunt-keeper did not start")
}
