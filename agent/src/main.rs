//! `shunt-agent`: runs on a back-end server, measures its load and reports it to control (patent, "agents" on the
//! application servers).

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use shunt_agent::run::Agent;
use shunt_agent::settings::Arguments;

/// EX_CONFIG (sysexits.h): trying again would not help.
const REFUSED: u8 = 78;

fn main() -> ExitCode {
    let filter = env_logger::Env::default().default_filter_or("info");
    env_logger::Builder::from_env(filter).format_target(false).init();
    let settings = match Arguments::parse().settings() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("shunt-agent: {error}");
            return ExitCode::from(REFUSED);
        }
    };
    let Err(error) = Agent::start(settings, Instant::now()).and_then(|mut agent| agent.run());
    eprintln!("shunt-agent: {error}");
    ExitCode::FAILURE
}
