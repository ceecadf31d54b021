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

const NAMES: [&str; 4] = ["keeper", "control", "switcher.0", "ifdaemon"];

fn processes(fixture: &Fixture) -> Result<Vec<(&'static str, Pid)>> {
    NAMES.iter().map(|name| Ok((*name, pid_of(&fixture.instance, name)?))).collect()
}

/// As where somebody has removed the files, or systemd has started the processes.
#[test]
fn processes_that_no_file_names_are_found_by_locks_and_memory() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let (mut fixture, log) = start("unnamed")?;
    let before = processes(&fixture)?;
    fixture.kill_supervisor()?;
    fixture.tell_processes(&before)?;
    for folder in ["pids", "starts"] {
        std::fs::remove_dir_all(fixture.run_folder().join(folder))?;
    }
    // As the keeper does where another runs.
    write_program(&fixture.folder.path().join("shunt-keeper"), "#!/bin/sh\nexit 78\n");
    fixture.start(File::options().append(true).open(&log)?)?;
    await_starts(&log, 2)?;
    assert_eq!(processes(&fixture)?, before);
    fixture.stop()
}

/// The keeper died with the supervisor, and its successor is refused, as by an interface that is down: the others go on.
#[test]
fn a_keeper_that_is_refused_beside_living_switchers_stops_nobody() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let (mut fixture, log) = start("refused-keeper")?;
    let before = processes(&fixture)?;
    fixture.kill_supervisor()?;
    kill(before[0].1, Signal::SIGKILL)?;
    write_program(&fixture.folder.path().join("shunt-keeper"), "#!/bin/sh\nexit 78\n");
    fixture.start(File::options().append(true).open(&log)?)?;
    until("further starts of the keeper", || {
        Ok(std::fs::read_to_string(&log)?.contains("with status 78; starting it again").then_some(()))
    })?;
    for (name, pid) in &before[1..] {
        assert_eq!(pid_of(&fixture.instance, name)?, *pid, "{name}");
    }
    assert!(fixture.run_folder().join("keeper.sock").exists());
    fixture.stop()
}

/// Somebody else started the instance while this supervisor's keeper came up and was refused.
#[test]
fn a_refused_supervisor_leaves_what_somebody_else_has() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let mut fixture = Fixture::new("stranger", None)?;
    let mut stranger = std::process::Command::new("timeout").args(["60", "sleep", "60"]).spawn()?;
    let pid = Pid::from_raw(i32::try_from(stranger.id())?);
    let script = "#!/bin/sh\n[ ! -e $0.switch ] || mv $0.switch ${0%/*}/processes\nexit 78\n";
    fixture.tell_processes(&[("switcher.0", pid)])?;
    std::fs::rename(fixture.folder.path().join("processes"), fixture.folder.path().join("shunt-keeper.switch"))?;
    fixture.tell_processes(&[])?;
    write_program(&fixture.folder.path().join("shunt-keeper"), script);
    for name in ["accepted.toml", "control.lock"] {
        std::fs::write(fixture.run_folder().join(name), "")?;
    }
    let log = fixture.folder.path().join("log");
    fixture.start(File::create(&log)?)?;
    until("another start of the keeper", || {
        Ok(std::fs::read_to_string(&log)?.contains("with status 78; starting it again").then_some(()))
    })?;
    fixture.stop()?;
    for name in ["accepted.toml", "control.lock", "keeper.sock"] {
        assert!(fixture.run_folder().join(name).exists(), "{name} is gone");
    }
    assert!(std::fs::read_to_string(&log)?.contains("goes on with processes of somebody else"));
    assert!(stranger.try_wait()?.is_none(), "the stranger is ended");
    stranger.kill()?;
    stranger.wait()?;
    Ok(())
}

#[test]
fn what_watches_for_a_supervisor_ends_with_it() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let (mut fixture, log) = start("watchers")?;
    restart_supervisor(&mut fixture, &log)?;
    let folder = fixture.folder.path().display().to_string();
    let watchers = || -> Result<usize> {
        let processes = std::fs::read_dir("/proc")?.flatten();
        let is_ours = |path: PathBuf| {
            let read =
                |name: &str| std::fs::read(path.join(name)).map(|text| String::from_utf8_lossy(&text).into_owned());
            read("cmdline").is_ok_and(|line| line.contains("shunt-supervisor"))
                && read("environ").is_ok_and(|environ| environ.contains(&folder))
        };
        Ok(processes.filter(|entry| is_ours(entry.path())).count())
    };
    // Now and then one of them has a child for a moment.
    until("a supervisor and one for each process", || Ok((watchers()? == 5).then_some(())))?;
    fixture.kill_supervisor()?;
    until("the end of all", || Ok((watchers()? == 0).then_some(())))?;
    fixture.start(File::options().append(true).open(&log)?)?;
    await_starts(&log, 3)?;
    fixture.stop()
}
