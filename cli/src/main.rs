//! The `shunt` command: an ordinary reader of the shared memory, and a client of control's admin socket.
//!
//! It writes nothing that another process reads. `memory` attaches, `configuration` copies the active generation, `views`
//! build rows and tables from both, `admin` sends commands, `check` and `doctor` run before a start.

mod admin;
mod check;
mod command;
mod configuration;
mod doctor;
mod drain;
mod format;
mod instance;
mod memory;
mod output;
mod start_fault;
mod table;
mod views;

use clap::Parser;
use command::{Arguments, run};
use std::process::ExitCode;

/// EX_USAGE (sysexits.h). Not clap's 2, which `shunt status` uses for an instance that does not serve.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => run(arguments),
        Err(refusal) => {
            // If this cannot be printed, there is no other channel.
            let _ = refusal.print();
            if refusal.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
        }
    }
}
