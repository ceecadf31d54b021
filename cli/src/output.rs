//! From a report to standard output: text or JSON, once or again and again.

use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// What a command shows.
pub trait Report: Serialize {
    /// The same as text.
    fn text(&self) -> String;
}

/// How a command shows it.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Output {
    /// Print JSON, with numbers and names that stay the same between versions.
    #[arg(long)]
    pub json: bool,
    /// Show it again each so many seconds, until interrupted.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub watch: Option<u32>,
}

fn seconds(text: &str) -> Result<u32, &'static str> {
    let number = text.parse().ok().filter(|seconds| *seconds > 0);
    number.ok_or("write a whole number of seconds, 1 or more")
}

/// Home, and clear from there: what a terminal is sent before it is shown again.
const CLEAR: &str = "\x1b[H\x1b[2J";

impl Output {
    /// Shows what `make` returns, as often as asked for; returns what was shown last.
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

/// One object on many lines; with `--watch`, one after the other.
pub fn json(report: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(report)? + "\n")
}

/// False if nobody reads any more, as after `| head`.
pub fn write(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true),
    }
}
