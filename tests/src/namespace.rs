//! A network namespace that somebody else made, and how to work inside it.

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::process::Command;
use std::thread::JoinHandle;

/// A named network namespace, as `ip netns` keeps them.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// By name; whether it is there shows when it is entered.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    fn open(&self) -> Result<File> {
        File::open(format!("/run/netns/{}", self.name)).with_context(|| format!("namespace {}", self.name))
    }

    /// A thread that works inside. It is a new one because a thread enters for good.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let file = self.open()?;
        Ok(std::thread::spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET)?;
            work()
        }))
    }

    /// Does something short inside. A socket opened there stays there, whoever uses it afterwards.
    pub fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        join(self.spawn(work)?)
    }

    /// A program that runs inside.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// `ip -n NAMESPACE ARGUMENTS`, which must succeed; what it printed.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        let output = Command::new("ip").args(["-n", &self.name]).args(arguments.split_whitespace()).output()?;
        anyhow::ensure!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// What a thread came to; its panic is an error, too.
pub fn join<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        anyhow!("a thread panicked: {}", text.unwrap_or_else(|| "without words".to_owned()))
    })?
}
