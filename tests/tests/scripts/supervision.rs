//! What comes at a bad moment for a supervisor: a signal between two commands, another process under a number that it
//! knows, another supervisor, its own death.

use crate::fixture::{Fixture, is_root};
use crate::write_program;
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use shunt_tests::operator::root;
use shunt_tests::supervisor::pid_of;
use shunt_tests::wait::until;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A fixture, and where its supervisor's log is going to be.
fn fixture(word: &str) -> Result<(Fixture, PathBuf)> {
    let fixture = Fixture::new(word, None)?;
    let log = fixture.folder.path().join("log");
    File::create(&log)?;
    Ok((fixture, log))
}

fn start(fixture: &mut Fixture, log: &Path) -> Result<()> {
    fixture.start(File::options().append(true).open(log)?)
}

fn await_line(log: &Path, part: &str) -> Result<()> {
    until(part, || Ok(std::fs::read_to_string(log)?.contains(part).then_some(())))
}

fn count(path: &Path, part: &str) -> Result<usize> {
    Ok(std::fs::read_to_string(path)?.matches(part).count())
}

/// The process has been made, and stands nowhere yet.
#[test]
fn a_stop_between_a_start_and_its_note_leaves_nobody_behind() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let (mut fixture, log) = fixture("early-stop")?;
    let child = fixture.folder.path().join("child");
    fixture.interfere(&format!(
        "set -T\ntrap 'if [[ $BASH_COMMAND == watch* && ${{name:-}} == switcher.0 ]]; then \
         echo $! >{}; trap - DEBUG; kill -TERM $$; fi' DEBUG\n",
        child.display()
    ))?;
    start(&mut fixture, &log)?;
    assert!(fixture.await_supervisor()?.success());
    let pid = Pid::from_raw(std::fs::read_to_string(child)?.trim().parse()?);
    until("the end of the switcher", || Ok(kill(pid, None).is_err().then_some(())))
}

/// As where a process has ended, and another one was given its number before the stop.
#[test]
fn a_stop_leaves_a_process_that_began_at_another_time_alone() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let (mut fixture, log) = fixture("other-start")?;
    fixture.interfere("set -T\ntrap '[[ $BASH_COMMAND != stop_all ]] || START_TIME[switcher.0]=1' DEBUG\n")?;
    start(&mut fixture, &log)?;
    await_line(&log, "started: keeper")?;
    let stranger = pid_of(&fixture.instance, "switcher.0")?;
    fixture.stop()?;
    kill(stranger, Signal::SIGKILL).context("the stranger is left alone")
}

/// As in a driver's call that never ends.
#[test]
fn a_process_that_outlives_its_kill_is_told_once_and_not_waited_for() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let (mut fixture, log) = fixture("immortal")?;
    let sent = fixture.folder.path().join("sent");
    let action = "[[ ${name:-} == switcher.0 ]] || builtin kill \"$@\"";
    fixture.interfere(&format!("kill() {{ echo \"$*\" >>{}; {action}; }}\n", sent.display()))?;
    start(&mut fixture, &log)?;
    await_line(&log, "started: keeper")?;
    let switcher = pid_of(&fixture.instance, "switcher.0")?;
    fixture.stop()?;
    kill(switcher, Signal::SIGKILL)?;
    assert_eq!(count(&sent, &format!("-KILL {switcher}\n"))?, 1);
    assert_eq!((count(&log, "killing it")?, count(&log, "after SIGKILL; going on without it")?), (1, 1));
    Ok(())
}

/// The first supervisor takes a lock on a file that is gone; the second one must not find a free one.
#[test]
fn a_lock_whose_file_is_replaced_meanwhile_is_taken_anew() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let (mut fixture, log) = fixture("replaced-lock")?;
    let lock = fixture.run_folder().join("supervisor.lock");
    fixture.interfere(&format!(
        "flock() {{ [[ -e {0} ]] || {{ : >{0}; rm {1}; }}; command flock \"$@\"; }}\n",
        fixture.folder.path().join("removed").display(),
        lock.display()
    ))?;
    start(&mut fixture, &log)?;
    await_line(&log, "started: keeper")?;
    let mut second = Command::new("timeout");
    second.arg("10").arg(root().join("deploy/shunt-supervisor")).arg("any.toml");
    let output = second.env("SHUNT_BIN", fixture.folder.path()).output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("already has a supervisor"), "{text}");
    fixture.stop()
}

/// Whoever finds no lock may begin: nothing may be removed any more then.
#[test]
fn the_lock_goes_after_everything_else() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let (mut fixture, log) = fixture("last-lock")?;
    let seen = fixture.folder.path().join("seen");
    fixture.interfere(&format!(
        "rm() {{ case $* in *supervisor.lock*) ls {} >>{} ;; esac; command rm \"$@\"; }}\n",
        fixture.run_folder().display(),
        seen.display()
    ))?;
    start(&mut fixture, &log)?;
    await_line(&log, "started: keeper")?;
    fixture.stop()?;
    assert_eq!(std::fs::read_to_string(seen)?, "supervisor.lock\n");
    assert!(!fixture.run_folder().exists());
    Ok(())
}

/// Somebody has removed the notes while the supervisor runs: the next ones are written all the same.
#[test]
fn notes_are_written_where_their_folders_were_removed() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let (mut fixture, log) = fixture("no-folders")?;
    start(&mut fixture, &log)?;
    await_line(&log, "started: keeper")?;
    let switcher = pid_of(&fixture.instance, "switcher.0")?;
    for folder in ["pids", "starts"] {
        std::fs::remove_dir_all(fixture.run_folder().join(folder))?;
    }
    kill(switcher, Signal::SIGKILL)?;
    until("another switcher's note", || Ok(pid_of(&fixture.instance, "switcher.0").ok()))?;
    fixture.stop()
}

/// It would run beside the one that the next supervisor starts.
#[test]
fn a_start_that_is_put_off_ends_with_its_supervisor() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let (mut fixture, log) = fixture("orphan")?;
    let ran = fixture.folder.path().join("ran");
    let text = format!("#!/bin/sh\necho ran >>{}\nexit 1\n", ran.display());
    write_program(&fixture.folder.path().join("shunt-switcher"), &text);
    start(&mut fixture, &log)?;
    await_line(&log, "starting it again after 1000 ms")?;
    fixture.kill_supervisor()?;
    let before = count(&ran, "ran")?;
    std::thread::sleep(Duration::from_millis(1500)); // longer than the longest delay
    assert_eq!(count(&ran, "ran")?, before);
    start(&mut fixture, &log)?;
    until("the second start", || Ok((count(&log, "started: keeper")? == 2).then_some(())))?;
    fixture.stop()
}

/// Control is between two starts, and reads the file at the next one.
#[test]
fn a_reload_leaves_a_start_that_is_put_off_alone() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let (mut fixture, log) = fixture("early-reload")?;
    let (good, ran) = (fixture.folder.path().join("good"), fixture.folder.path().join("ran"));
    let text = format!(
        "#!/bin/sh\n[ -e {0} ] || exit 1\ngrep ^SigIgn: /proc/$$/status >{1}\nexec sleep 1000\n",
        good.display(),
        ran.display()
    );
    write_program(&fixture.folder.path().join("shunt-control"), &text);
    start(&mut fixture, &log)?;
    await_line(&log, "starting it again after 1000 ms")?;
    let deaths = count(&log, "(death ")?;
    File::create(&good)?;
    fixture.signal(Signal::SIGHUP)?;
    await_line(&log, "reloading any.toml")?;
    let ignored =
        until("control's start", || Ok(std::fs::read_to_string(&ran).ok().filter(|text| text.ends_with('\n'))))?;
    assert_eq!(count(&log, "(death ")?, deaths, "the reload ended nothing");
    let mask = u64::from_str_radix(ignored.trim_start_matches("SigIgn:").trim(), 16)?;
    assert_eq!(mask & 1, 1, "a SIGHUP before control catches it is harmless: {ignored}");
    fixture.stop()
}

/// It is no child of the one that waits for its socket.
#[test]
fn an_adopted_keeper_that_dies_before_it_is_ready_is_started_again_first() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let (mut fixture, log) = fixture("adopted-keeper")?;
    // What is looked for is the program's own name.
    let silence = fixture.folder.path().join("silence");
    mkfifo(&silence, Mode::S_IRWXU)?;
    let text = format!("#!/bin/sh\nread -r line <>{}\n", silence.display());
    write_program(&fixture.folder.path().join("shunt-keeper"), &text);
    start(&mut fixture, &log)?;
    await_line(&log, "started: keeper")?;
    fixture.kill_supervisor()?;
    std::fs::remove_file(fixture.run_folder().join("keeper.sock"))?;
    let keeper = pid_of(&fixture.instance, "keeper")?;
    start(&mut fixture, &log)?;
    await_line(&log, "runs already")?;
    kill(keeper, Signal::SIGKILL)?;
    until("the second start", || Ok((count(&log, "started: keeper")? == 2).then_some(())))?;
    let text = std::fs::read_to_string(&log)?;
    let [again, started] = [text.find("ended; starting it again"), text.rfind("started: keeper")];
    assert!(again.is_some() && again < started, "{text}");
    fixture.stop()
}
