//! Prints a report as text or JSON, once or repeatedly.

use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// A command's result.
pub trait Report: Serialize {
    /// The result as text.
    fn text(&self) -> String;
}

/// Output options.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Output {
    /// Print JSON, with numbers and names that stay the same between versions.
    #[arg(long)]
    pub json: bool,
    /// Repeat at this interval in seconds, until interrupted.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub watch: Option<u32>,
}

fn seconds(text: &str) -> Result<u32, &'static str> {
    let number = text.parse().ok().filter(|seconds| *seconds > 0);
    number.ok_or("write a whole number of seconds, 1 or more")
}

/// Cursor home, and clear to the end: sent to a terminal before each repetition.
const CLEAR: &str = "\x1b[H\x1b[2J";

impl Output {
    /// Prints the result of `make`, repeatedly if requested; returns the last one.
    pub fn show<R: Report>(self, mut make: impl FnMut() -> anyhow::Result<R>) -> anyhow::Result<R> {
        loop {
            let report = make()?;
            let clear = if self.watch.is_some() && io::stdout().is_terminal() { CLEAR } else { "" };
            let text = if self.json { json(&report)? } else { report.text() };
            if !write(&format!("{clear}{text}"))? {
                return Ok(report);
            }
            match self.watch {
                Some(seconds) => std::thread::sleep(Duration::from_secs(seconds.into())),
                None => return Ok(report),
            }
        }
    }
}

/// One object on several lines; with `--watch`, one object per line.
pub fn json(report: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(report)? + "\n")
}

/// Returns false if the reader is gone, as after `| head`.
pub fn write(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true),
    }
}
