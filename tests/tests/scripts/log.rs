//! What a log that can't be written changes: nothing but the log.

use crate::fixture::{Fixture, is_root};
use crate::{said, write_program};
use anyhow::Result;
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::Mode;
use nix::sys::termios::{FlowArg, tcflow};
use nix::unistd::mkfifo;
use shunt_tests::operator::{binaries, root};
use shunt_tests::supervisor::pid_of;
use shunt_tests::wait::until;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").expect("/dev/full")
}

#[test]
fn a_refusal_that_cannot_be_printed_keeps_its_status() {
    let folder = tempfile::tempdir().expect("a folder");
    let bad = folder.path().join("bad.toml");
    std::fs::write(&bad, "nonsense = 1\n").expect("a configuration");
    let bad = bad.to_str().expect("a path");
    let cases: [(&str, &[&str], i32); 5] = [
        ("shunt-keeper", &["--config", bad], 78),
        ("shunt-control", &["--config", bad], 78),
        ("shunt-agent", &["--config", bad], 78),
        ("shunt", &["check", bad], 78),
        ("shunt", &["--instance", "nope", "status"], 3),
    ];
    for (name, arguments, expected) in cases {
        let mut command = Command::new(binaries().expect("binaries").join(name));
        let status = command.args(arguments).stdout(full()).stderr(full()).status().expect(name);
        assert_eq!(status.code(), Some(expected), "{name} {arguments:?}: {status}");
    }
}

#[test]
fn a_process_ends_although_nobody_reads_its_log() -> Result<()> {
    for name in ["shunt-keeper", "shunt-control", "shunt-agent"] {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("log");
        mkfifo(&path, Mode::S_IRWXU)?;
        let nonblocking = |options: &mut OpenOptions| options.custom_flags(libc::O_NONBLOCK).open(&path);
        let _reader = nonblocking(OpenOptions::new().read(true))?;
        // The process asks for a pipe of 1 MiB; a smaller one would get room by that.
        let mut filler = nonblocking(OpenOptions::new().write(true))?;
        nix::fcntl::fcntl(&filler, nix::fcntl::FcntlArg::F_SETPIPE_SZ(1 << 20))?;
        while std::io::Write::write(&mut filler, &[b'.'; 4096]).is_ok() {}
        let log = OpenOptions::new().write(true).open(&path)?;
        let mut command = Command::new(binaries()?.join(name));
        let mut child = command.args(["--config", "/no/such/file.toml"]).stderr(log).spawn()?;
        let ended = until("the process's end", || Ok(child.try_wait()?));
        let _ = child.kill();
        child.wait()?;
        assert_eq!(ended?.code(), Some(78), "{name}");
    }
    Ok(())
}

#[test]
fn a_supervisor_goes_on_while_the_disk_of_its_log_is_full() -> Result<()> {
    if is_root() {
        let mut fixture = Fixture::new("full-log", None)?;
        fixture.start(full())?;
        fixture.replace_switcher()?;
        fixture.stop()?;
    }
    Ok(())
}

#[test]
fn a_supervisor_goes_on_while_nobody_reads_its_log() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let mut fixture = Fixture::new("blocked-log", None)?;
    let path = fixture.folder.path().join("log");
    mkfifo(&path, Mode::S_IRWXU)?;
    let mut reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path)?;
    let writer = OpenOptions::new().write(true).open(&path)?;
    // Fills the pipe by a description of its own.
    let mut filler = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&path)?;
    while std::io::Write::write(&mut filler, &[b'.'; 4096]).is_ok() {}
    fixture.start(writer)?;
    fixture.replace_switcher()?;
    let mut bytes = Vec::new();
    let mut said = || -> Result<String> {
        // Ends with "would block"; what was read until then stays.
        let _ = reader.read_to_end(&mut bytes);
        Ok(String::from_utf8(bytes.clone())?)
    };
    let text = said()?;
    assert!(!text.contains("starting it again"), "the pipe had room: {text}");
    fixture.replace_switcher()?;
    let text =
        until("a line once there is room", || Ok(Some(said()?).filter(|text| text.contains("starting it again"))))?;
    assert!(text.contains(" log lines lost\n"), "{text}");
    fixture.stop()
}

/// A supervisor whose log takes nothing until `resume` replaces its switcher, and says afterwards that lines were lost.
fn outlives_a_blocked_log(word: &str, log: File, resume: impl FnOnce() -> Result<()>, mut reader: File) -> Result<()> {
    let mut fixture = Fixture::new(word, None)?;
    fixture.start(log)?;
    fixture.replace_switcher()?;
    resume()?;
    let mut bytes = Vec::new();
    // Ends with "would block"; what was read until then stays. It makes room, where that is what was missing.
    let mut read = |bytes: &mut Vec<u8>| drop(reader.read_to_end(bytes));
    read(&mut bytes);
    fixture.replace_switcher()?;
    until("a line once it is read", || {
        read(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        Ok((text.contains(" log lines lost") && text.contains("starting it again")).then_some(()))
    })?;
    fixture.stop()
}

/// As by Ctrl-S.
#[test]
fn a_supervisor_goes_on_while_its_terminal_is_stopped() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let terminal = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
    grantpt(&terminal)?;
    unlockpt(&terminal)?;
    let log = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(ptsname_r(&terminal)?)?;
    let stopped = log.try_clone()?;
    tcflow(&stopped, FlowArg::TCOOFF)?;
    let reader = File::from(terminal.as_fd().try_clone_to_owned()?);
    outlives_a_blocked_log("stopped-log", log, || Ok(tcflow(&stopped, FlowArg::TCOON)?), reader)
}

/// As a full journal's.
#[test]
fn a_supervisor_goes_on_while_nobody_reads_its_log_socket() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let (log, reader) = UnixStream::pair()?;
    // Not O_NONBLOCK, which would be the supervisor's, too.
    while send(log.as_raw_fd(), &[b'.'; 4096], MsgFlags::MSG_DONTWAIT).is_ok() {}
    reader.set_nonblocking(true)?;
    let [log, reader] = [log, reader].map(|end| File::from(OwnedFd::from(end)));
    outlives_a_blocked_log("full-socket", log, || Ok(()), reader)
}

#[test]
fn a_supervisor_goes_on_without_pid_files_until_there_is_room() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let mut fixture = Fixture::new("full-run", Some("size=64k"))?;
    let filler = fixture.run_folder().join("filler");
    let filled = std::fs::write(&filler, vec![0; 1 << 20]);
    assert!(filled.is_err(), "the file system has room");
    let log = fixture.folder.path().join("log");
    fixture.start(File::create(&log)?)?;
    let text = || -> Result<String> { Ok(std::fs::read_to_string(&log)?) };
    until("the start", || Ok(text()?.contains("started: keeper").then_some(())))?;
    assert_eq!(text()?.matches("cannot write").count(), 5, "{}", text()?);
    std::fs::remove_file(&filler)?;
    fixture.replace_switcher()?;
    let written = |name| pid_of(&fixture.instance, name).ok();
    until("the others' files", || Ok(written("keeper").and(written("control"))))?;
    fixture.stop()
}

/// The refusal's text, where there is a log.
#[test]
fn a_supervisor_says_why_a_configuration_is_refused() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let fixture = Fixture::new("refused", None)?;
    write_program(&fixture.folder.path().join("shunt"), "#!/bin/sh\necho any.toml:1: nonsense >&2\nexit 78\n");
    let mut command = Command::new(root().join("deploy/shunt-supervisor"));
    command.arg("any.toml").env("SHUNT_BIN", fixture.folder.path());
    let (status, _, errors) = said(&command.output()?);
    assert_eq!(status, Some(78), "{errors}");
    assert!(errors.starts_with("any.toml:1: nonsense\n") && errors.contains("are above"), "{errors}");
    Ok(())
}
