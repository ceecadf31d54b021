//! The operator's command line.

use clap::Parser;
use shunt_control::cli::{Arguments, run};
use std::process::ExitCode;

/// EX_USAGE (sysexits.h). Not clap's 2, which `shunt status` has for an instance that doesn't serve.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => run(arguments),
        Err(refusal) => {
            // Nobody is left to tell where this can't be printed.
            let _ = refusal.print();
            if refusal.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
        }
    }
}
