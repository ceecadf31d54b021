//! How each of Shunt's processes ends when it cannot go on: one message form, and the meaning of its exit status.

use crate::stderr::say;
use std::fmt::Display;
use std::process::ExitCode;

/// Exit status: the configuration or the machine is refused, and starting again would change nothing (EX_CONFIG, sysexits.h).
pub const REFUSED: u8 = 78;

/// Prints `PROGRAM: REASON` to standard error. The status is [`REFUSED`] if `refused`, otherwise 1, which is worth another start.
pub fn give_up(program: &str, reason: impl Display, refused: bool) -> ExitCode {
    say(format_args!("{program}: {reason}"));
    ExitCode::from(if refused { REFUSED } else { 1 })
}
