//! The last message and the exit status of a process that cannot continue.

use crate::stderr::say;
use std::fmt::Display;
use std::process::ExitCode;

/// Exit status for a configuration or machine that is refused: a restart would fail the same way (EX_CONFIG, sysexits.h).
pub const REFUSED: u8 = 78;

/// Prints `PROGRAM: REASON` to standard error. Returns [`REFUSED`] if `refused`, otherwise 1: a restart may succeed.
pub fn give_up(program: &str, reason: impl Display, refused: bool) -> ExitCode {
    say(format_args!("{program}: {reason}"));
    ExitCode::from(if refused { REFUSED } else { 1 })
}
