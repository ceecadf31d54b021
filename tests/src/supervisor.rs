//! The supervisor as a child of the test, and the processes that a supervisor watches.

use crate::namespace::Namespace;
use crate::operator::{binaries, root};
use crate::wait::{PATIENCE, until};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// A supervisor that the test started.
pub struct Supervisor(Child);

impl Supervisor {
    /// Starts it inside a namespace; what it and its children say goes to `log`.
    pub fn start(namespace: &Namespace, configuration: &Path, log: File) -> Result<Self> {
        let mut command = command(namespace, configuration)?;
        command.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null());
        Ok(Self(command.spawn().context("deploy/shunt-supervisor")?))
    }

    /// Asks it to stop all, and waits until it has. The status must be 0.
    pub fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.0.id())?), Signal::SIGTERM)?;
        let status = until("the supervisor's end", || Ok(self.0.try_wait()?))?;
        ensure!(status.success(), "the supervisor ended with {status}");
        Ok(())
    }
}

/// Starts one that is going to be refused, and waits for its end; one that isn't refused is stopped after a while.
pub fn start_refused(namespace: &Namespace, configuration: &Path) -> Result<Output> {
    let mut command = Command::new("timeout");
    command.arg(PATIENCE.as_secs().to_string());
    let supervisor = self::command(namespace, configuration)?;
    command.arg(supervisor.get_program()).args(supervisor.get_args()).env("SHUNT_BIN", binaries()?);
    command.output().context("deploy/shunt-supervisor")
}

fn command(namespace: &Namespace, configuration: &Path) -> Result<Command> {
    // As from a terminal that one wants to close: below nohup, SIGHUP is ignored at first.
    let mut command = namespace.command("nohup");
    command.arg(root().join("deploy/shunt-supervisor")).arg(configuration).env("SHUNT_BIN", binaries()?);
    Ok(command)
}

/// The process that an instance's supervisor started last under this name.
pub fn pid_of(instance: &str, process: &str) -> Result<Pid> {
    let path = format!("/run/shunt/{instance}/pids/{process}");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    Ok(Pid::from_raw(text.trim().parse().with_context(|| format!("{path} holds {text:?}"))?))
}
