//! `shunt-control`: the control processor (patent Fig. 4).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use shunt_control::main_loop::MainLoop;
use shunt_control::start::StartError;
use shunt_process::{give_up, start_log};

/// Shunt's control: reads the configuration, follows routes and neighbours, checks backends, publishes the tables.
#[derive(Parser)]
#[command(name = "shunt-control", version)]
struct Arguments {
    /// The configuration file; SIGHUP and `shunt reload` read it again.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log(true);
    match run(&arguments.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let refused = failure.downcast_ref().is_some_and(StartError::is_refusal);
            give_up("shunt-control", format_args!("{failure:#}"), refused)
        }
    }
}

fn run(config: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    let result = runtime.block_on(async { Ok(MainLoop::start(config).await?.run().await?) });
    // A count of connections that is under way isn't waited for.
    runtime.shutdown_background();
    result
}
