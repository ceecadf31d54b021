//! The operator's command line.

use clap::Parser;
use shunt_control::cli::{Arguments, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    run(Arguments::parse())
}
