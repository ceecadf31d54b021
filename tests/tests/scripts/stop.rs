//! A stop after the keeper was killed, and a signal to all processes at once.

use crate::fixture::{Fixture, is_root};
use crate::write_program;
use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shunt_tests::supervisor::pid_of;
use shunt_tests::wait::until;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A supervisor whose keeper makes memory and, unless it is told to leave it, removes it on SIGTERM. The supervisor is stopped
/// by the `stop` that gets its pid. Returns its exit status, its log and its memory.
fn end_of(
    word: &str,
    removes: bool,
    stop: impl Fn(&Fixture, Pid) -> Result<()>,
) -> Result<(Option<i32>, String, PathBuf)> {
    let mut fixture = Fixture::new(word, None)?;
    let memory = Path::new("/dev/shm").join(format!("shunt.{}.keeper", fixture.instance));
    let action = if removes { format!("rm -f {}; exit 0", memory.display()) } else { "exit 0".into() };
    // Its socket is the fixture's, under another name too: a second keeper puts that one back.
    let [socket, kept] = ["keeper.sock", "accepted.socket"].map(|name| fixture.run_folder().join(name));
    let (socket, kept) = (socket.display(), kept.display());
    let keeper = format!(
        "#!/bin/sh\ntrap '{action}' TERM INT\n: >{}\n\
         if [ -S {socket} ]; then ln -f {socket} {kept}; else ln {kept} {socket}; fi\nwhile :; do sleep 0.05; done\n",
        memory.display()
    );
    write_program(&fixture.folder.path().join("shunt-keeper"), &keeper);
    let log = fixture.folder.path().join("log");
    fixture.start(File::create(&log)?)?;
    until("the start", || Ok(std::fs::read_to_string(&log)?.contains("started: keeper").then_some(())))?;
    until("the memory", || Ok(memory.exists().then_some(())))?;
    let supervisor = pid_of(&fixture.instance, "supervisor")?;
    stop(&fixture, supervisor)?;
    let status = fixture.await_supervisor()?;
    Ok((status.code(), std::fs::read_to_string(log)?, memory))
}

/// The signals reach a supervisor that waits, so both are there when it looks.
fn kill_keeper_and_stop(fixture: &Fixture, supervisor: Pid) -> Result<()> {
    let keeper = pid_of(&fixture.instance, "keeper")?;
    kill(supervisor, Signal::SIGSTOP)?;
    kill(keeper, Signal::SIGKILL)?;
    kill(supervisor, Signal::SIGTERM)?;
    Ok(kill(supervisor, Signal::SIGCONT)?)
}

#[test]
fn a_stop_after_the_keeper_was_killed_removes_its_memory() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let (status, log, memory) = end_of("killed-keeper", true, kill_keeper_and_stop)?;
    assert!(status == Some(0) && !memory.exists(), "{status:?}: {log}");
    Ok(())
}

#[test]
fn a_stop_that_leaves_memory_fails_and_says_so() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let (status, log, memory) = end_of("left-memory", false, kill_keeper_and_stop)?;
    std::fs::remove_file(memory)?;
    assert!(status == Some(1) && log.contains("its shared memory (/dev/shm/shunt.left-memory-"), "{status:?}: {log}");
    Ok(())
}

/// As by Ctrl-C on a terminal.
#[test]
fn processes_that_end_by_the_supervisors_signal_do_not_start_again() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let (status, log, memory) = end_of("all-at-once", true, |fixture, supervisor| {
        kill(supervisor, Signal::SIGSTOP)?;
        for name in ["keeper", "control", "switcher.0"] {
            kill(pid_of(&fixture.instance, name)?, Signal::SIGINT)?;
        }
        kill(supervisor, Signal::SIGINT)?;
        Ok(kill(supervisor, Signal::SIGCONT)?)
    })?;
    assert!(status == Some(0) && !memory.exists() && !log.contains("starting it again"), "{status:?}: {log}");
    Ok(())
}
