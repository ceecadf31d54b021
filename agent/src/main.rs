//! `shunt-agent`: measures the load of a back-end server and reports it to control (patent, "agents" on the application
//! servers).

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use shunt_agent::run::Agent;
use shunt_agent::settings::Arguments;
use shunt_process::{give_up, start_log};

fn main() -> ExitCode {
    start_log(false);
    let settings = match Arguments::parse().settings() {
        Ok(settings) => settings,
        Err(error) => return give_up("shunt-agent", error, true),
    };
    let Err(error) = Agent::start(settings, Instant::now()).and_then(|mut agent| agent.run());
    give_up("shunt-agent", &error, error.is_refusal())
}
