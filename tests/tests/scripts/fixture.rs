//! A supervisor of programs that do nothing.

use crate::write_program;
use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use shunt_tests::operator::root;
use shunt_tests::supervisor::pid_of;
use shunt_tests::wait::until;
use std::fs::File;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// A supervisor of programs that do nothing, below which the test can take away what it writes to.
pub struct Fixture {
    /// Of the programs.
    pub folder: tempfile::TempDir,
    /// Its name.
    pub instance: String,
    /// The keeper's, which the supervisor waits for.
    _socket: UnixListener,
    supervisor: Option<Child>,
    is_mounted: bool,
}

impl Fixture {
    /// `tmpfs` is the size of a file system of its own for the instance's folder.
    pub fn new(word: &str, tmpfs: Option<&str>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let instance = format!("{word}-{}", std::process::id());
        let run = Path::new("/run/shunt").join(&instance);
        std::fs::create_dir_all(&run)?;
        if let Some(size) = tmpfs {
            mount(Some("tmpfs"), &run, Some("tmpfs"), MsFlags::empty(), Some(size))?;
        }
        let processes = folder.path().join("processes");
        std::fs::write(&processes, "")?;
        let shunt = format!(
            "#!/bin/sh\ncase \"$1 $2\" in\n'check --shell') printf 'INSTANCE={instance}\\nSWITCHERS=1\\n' ;;\n\
             processes*) cat '{}' ;;\n*) echo accepted ;;\nesac\n",
            processes.display()
        );
        write_program(&folder.path().join("shunt"), &shunt);
        for name in ["keeper", "control", "switcher", "ifdaemon"] {
            write_program(&folder.path().join(format!("shunt-{name}")), "#!/bin/sh\nexec sleep 1000\n");
        }
        let socket = UnixListener::bind(run.join("keeper.sock"))?;
        Ok(Self { folder, instance, _socket: socket, supervisor: None, is_mounted: tmpfs.is_some() })
    }

    /// Where the instance has its files.
    pub fn run_folder(&self) -> PathBuf {
        Path::new("/run/shunt").join(&self.instance)
    }

    /// What locks and memory say of the instance from now on.
    pub fn tell_processes(&self, processes: &[(&str, Pid)]) -> Result<()> {
        let line = |(name, pid): &(&str, Pid)| {
            let start_time = shunt_shmlayout::header::start_time(u32::try_from(pid.as_raw())?).unwrap_or(0);
            Ok(format!("{name} {pid} {start_time}\n"))
        };
        let text = processes.iter().map(line).collect::<Result<String>>()?;
        Ok(std::fs::write(self.folder.path().join("processes"), text)?)
    }

    /// Starts the supervisor.
    pub fn start(&mut self, log: File) -> Result<()> {
        let mut command = Command::new(root().join("deploy/shunt-supervisor"));
        command.arg("any.toml").env("SHUNT_BIN", self.folder.path()).stdin(Stdio::null());
        let interference = self.interference();
        if interference.exists() {
            command.env("BASH_ENV", interference);
        }
        self.supervisor = Some(command.stdout(log.try_clone()?).stderr(log).spawn()?);
        Ok(())
    }

    /// Bash that every supervisor started from now on reads before its script.
    pub fn interfere(&self, text: &str) -> Result<()> {
        Ok(std::fs::write(self.interference(), text)?)
    }

    fn interference(&self) -> PathBuf {
        self.folder.path().join("interference")
    }

    /// The supervisor's end, asked for or not.
    pub fn await_supervisor(&mut self) -> Result<ExitStatus> {
        let supervisor = self.supervisor.as_mut().context("a supervisor")?;
        let status = until("the supervisor's end", || Ok(supervisor.try_wait()?))?;
        self.supervisor = None;
        Ok(status)
    }

    /// Ends the supervisor alone, as by the kernel's out-of-memory killer.
    pub fn kill_supervisor(&mut self) -> Result<()> {
        if let Some(mut supervisor) = self.supervisor.take() {
            supervisor.kill()?;
            supervisor.wait()?;
        }
        Ok(())
    }

    /// Ends the switcher, and waits for the next one.
    pub fn replace_switcher(&self) -> Result<()> {
        let switcher = || Ok(pid_of(&self.instance, "switcher.0").ok());
        let first = until("a switcher", switcher)?;
        kill(first, Signal::SIGKILL)?;
        until("another switcher", || Ok(switcher()?.filter(|pid| *pid != first)))?;
        Ok(())
    }

    /// Sends the supervisor a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let supervisor = self.supervisor.as_ref().context("a supervisor")?;
        Ok(kill(Pid::from_raw(i32::try_from(supervisor.id())?), signal)?)
    }

    /// Stops the supervisor with what it watches.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut supervisor) = self.supervisor.take() {
            kill(Pid::from_raw(i32::try_from(supervisor.id())?), Signal::SIGTERM)?;
            let status = until("the supervisor's end", || Ok(supervisor.try_wait()?))?;
            anyhow::ensure!(status.success(), "the supervisor ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = self.stop();
        if self.is_mounted {
            let _ = umount2(&self.run_folder(), MntFlags::MNT_DETACH);
        }
        let _ = std::fs::remove_dir_all(self.run_folder());
    }
}

/// Says so where it can't be tried.
pub fn is_root() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        eprintln!("SKIPPED: the supervisor needs root");
    }
    is_root
}
