//! Which processes a supervisor takes over from one that was killed.

use crate::fixture::{Fixture, is_root};
use crate::write_program;
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use shunt_tests::supervisor::pid_of;
use shunt_tests::wait::until;
use std::fs::File;
use std::path::PathBuf;

/// A supervisor of programs that keep their names and wait for ever, and its log.
fn start(word: &str) -> Result<(Fixture, PathBuf)> {
    let mut fixture = Fixture::new(word, None)?;
    let silence = fixture.folder.path().join("silence");
    mkfifo(&silence, Mode::S_IRWXU)?;
    for name in ["keeper", "control", "switcher", "ifdaemon"] {
        let text = format!("#!/bin/sh\nread -r line <>{}\n", silence.display());
        write_program(&fixture.folder.path().join(format!("shunt-{name}")), &text);
    }
    let log = fixture.folder.path().join("log");
    fixture.start(File::create(&log)?)?;
    await_starts(&log, 1)?;
    Ok((fixture, log))
}

fn await_starts(log: &PathBuf, count: usize) -> Result<()> {
    until("the start", || {
        let text = std::fs::read_to_string(log)?;
        Ok((text.matches("started: keeper").count() == count).then_some(()))
    })
}

fn restart_supervisor(fixture: &mut Fixture, log: &PathBuf) -> Result<()> {
    fixture.kill_supervisor()?;
    fixture.start(File::options().append(true).open(log)?)?;
    await_starts(log, 2)
}

fn switcher(fixture: &Fixture) -> Result<Pid> {
    pid_of(&fixture.instance, "switcher.0")
}

#[test]
fn the_processes_of_a_supervisor_that_was_killed_are_adopted() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let (mut fixture, log) = start("adopt")?;
    let before = switcher(&fixture)?;
    restart_supervisor(&mut fixture, &log)?;
    assert_eq!(switcher(&fixture)?, before);
    assert_eq!(std::fs::read_to_string(&log)?.matches("runs already").count(), 4);
    fixture.stop()
}

/// What runs under the number that was written down may be another process of the same name, such as another instance's.
#[test]
fn a_process_that_was_given_the_number_of_one_that_ended_is_not_adopted() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let (mut fixture, log) = start("reused")?;
    let stranger = switcher(&fixture)?;
    let record = fixture.run_folder().join("starts/switcher.0");
    let text = std::fs::read_to_string(&record)?;
    let (pid, started) = text.trim().split_once(' ').context("PID START-TIME")?;
    assert_eq!(pid, stranger.to_string());
    std::fs::write(&record, format!("{pid} {}\n", started.parse::<u64>()? - 1))?;
    restart_supervisor(&mut fixture, &log)?;
    assert_ne!(switcher(&fixture)?, stranger);
    assert_eq!(std::fs::read_to_string(&log)?.matches("runs already").count(), 3);
    fixture.stop()?;
    kill(stranger, Signal::SIGKILL).context("the stranger is left alone")
}
