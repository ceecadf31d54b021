//! `shunt-agent`: runs on a back-end server, measures its load and reports it to control (patent, "agents" on the
//! application servers).
//!
//! Control takes no reports yet: it says so and stops, so that nobody believes that weights follow load.

use clap::Parser;
use std::process::ExitCode;

/// EX_CONFIG (sysexits.h): trying again would not help.
const REFUSED: u8 = 78;

/// Measures a back-end server's load and reports it to shunt-control.
#[derive(Debug, Parser)]
#[command(name = "shunt-agent", version)]
struct Arguments {}

fn main() -> ExitCode {
    let Arguments {} = Arguments::parse();
    eprintln!(
        "shunt-agent: reporting can't be configured in this version: weights are those of the configuration, and health \
         is what shunt-control's own checks say. It will need the address of shunt-control, a key that both know, and \
         this back-end's name; until then, don't start it"
    );
    ExitCode::from(REFUSED)
}
