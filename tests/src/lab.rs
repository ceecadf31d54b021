//! A laboratory of `deploy/lab`, removed with the value.

use crate::configuration::Configuration;
use crate::namespace::Namespace;
use crate::operator::{Operator, binaries, root};
use crate::runner;
use crate::supervisor::{Supervisor, pid_of};
use crate::wait::until;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

/// nginx, which answers with the backend's name.
pub const WEB: SocketAddr = address(80);
/// TCP echo.
pub const ECHO: SocketAddr = address(5000);
/// UDP echo.
pub const UDP_ECHO: SocketAddr = address(5001);
/// The box's own programs at the service address, where nobody listens until a test does.
pub const SHARED: SocketAddr = address(22);
/// The address of the pseudo-interface, where the box's own nginx is.
pub const HOST: std::net::Ipv4Addr = std::net::Ipv4Addr::new(198, 18, 0, 101);
/// The box's own programs by an interface of the kernel's in the back-end network.
pub const INNER: SocketAddr = address(8080);
/// A port of the service address that no service uses.
pub const CLOSED: SocketAddr = address(81);

const fn address(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 0, 100)), port)
}

/// What is built.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Back-end servers.
    pub backends: usize,
    /// Switchers.
    pub switchers: usize,
    /// `nat` or `dsr`.
    pub mode: &'static str,
    /// `af_xdp` or `af_packet`.
    pub port: &'static str,
    /// What switchers do when no packet came; `auto`: spin while a CPU is left for everything else, else yield.
    pub idle: &'static str,
    /// Whether the box itself has an interface in the back-end network, too (patent Fig. 7).
    pub inner: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self { backends: 2, switchers: 1, mode: "nat", port: "af_xdp", idle: "auto", inner: false }
    }
}

/// A laboratory that is up.
pub struct Lab {
    name: String,
    /// What was built.
    pub shape: Shape,
    /// Started by the test instead of by `deploy/lab`.
    supervisor: Option<Supervisor>,
}

impl Lab {
    /// Builds it. The name gets this process's id, so that two test runs don't meet.
    pub fn up(word: &str, shape: Shape) -> Result<Self> {
        // From here on its removal is owed, even of half of it.
        let lab = Self { name: format!("{word}-{}", std::process::id()), shape, supervisor: None };
        let Shape { backends, switchers, mode, port, idle, inner } = shape;
        let inner = if inner { "on" } else { "off" };
        let how = format!("--switchers {switchers} --mode {mode} --port {port} --idle {idle} --inner {inner}");
        lab.order(&format!("up --backends {backends} {how}"))?;
        Ok(lab)
    }

    /// The same with checks that bear with a back-end for ten seconds: where no back-end dies, none may be taken for dead
    /// because this machine is busy.
    pub fn up_patient(word: &str, shape: Shape) -> Result<Self> {
        let lab = Self::up(word, shape)?;
        lab.reload(&lab.configuration()?.with("fall = 2", "fall = 20")?)?;
        Ok(lab)
    }

    fn order(&self, arguments: &str) -> Result<()> {
        let mut command = Command::new(root().join("deploy/lab"));
        command.args(arguments.split_whitespace()).args(["--name", &self.name]).env("SHUNT_BIN", binaries()?);
        let output = command.output().context("deploy/lab")?;
        ensure!(output.status.success(), "deploy/lab {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Its name, which is the instance's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the clients are.
    pub fn client(&self) -> Namespace {
        Namespace::named(format!("{}-client", self.name))
    }

    /// Where Shunt is.
    pub fn balancer(&self) -> Namespace {
        Namespace::named(format!("{}-lb", self.name))
    }

    /// Where a back-end server is, counted from 1.
    pub fn server(&self, number: usize) -> Namespace {
        Namespace::named(format!("{}-b{number}", self.name))
    }

    /// Names of the back-end servers.
    pub fn backends(&self) -> Vec<String> {
        (1..=self.shape.backends).map(|number| format!("b{number}")).collect()
    }

    /// Who gives orders to it.
    pub fn operator(&self) -> Operator {
        Operator::of(&self.name)
    }

    /// Kills a back-end server's processes.
    pub fn stop_backend(&self, number: usize) -> Result<()> {
        self.order(&format!("stop-backend {number}"))
    }

    /// Starts them again.
    pub fn start_backend(&self, number: usize) -> Result<()> {
        self.order(&format!("start-backend {number}"))
    }

    /// Where its files are; removed with it.
    pub fn folder(&self) -> PathBuf {
        PathBuf::from("/run/shunt-lab").join(&self.name)
    }

    /// Its configuration file.
    pub fn configuration_path(&self) -> PathBuf {
        self.folder().join("shunt.toml")
    }

    /// Its configuration.
    pub fn configuration(&self) -> Result<Configuration> {
        Ok(Configuration(std::fs::read_to_string(self.configuration_path())?))
    }

    /// Replaces its configuration file.
    pub fn configure(&self, configuration: &Configuration) -> Result<()> {
        Ok(std::fs::write(self.configuration_path(), &configuration.0)?)
    }

    /// Replaces its configuration file and orders a reload.
    pub fn reload(&self, configuration: &Configuration) -> Result<()> {
        self.configure(configuration)?;
        self.operator().order("reload").map(drop)
    }

    /// What Shunt's processes have written so far.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.log_path())?)
    }

    fn log_path(&self) -> PathBuf {
        self.folder().join("log/shunt")
    }

    /// Kills processes with -9, all before one can be started again, and waits until each has a successor that runs.
    pub fn kill(&self, processes: &[&str]) -> Result<()> {
        let victims: Vec<_> =
            processes.iter().map(|process| Ok((*process, pid_of(&self.name, process)?))).collect::<Result<_>>()?;
        for (process, pid) in &victims {
            kill(*pid, Signal::SIGKILL).with_context(|| format!("killing {process}"))?;
        }
        for (process, pid) in &victims {
            until(&format!("a successor of {process} (pid {pid})"), || {
                Ok(pid_of(&self.name, process).ok().filter(|successor| successor != pid))
            })?;
        }
        self.await_running()
    }

    /// Waits until every process runs as the status sees it, and is the one that the supervisor started.
    pub fn await_running(&self) -> Result<()> {
        until(&format!("all processes of {} running", self.name), || {
            let Ok(status) = self.operator().status() else {
                return Ok(None);
            };
            let is_well = |process: &crate::operator::Process| {
                let number = process.number.map(|number| format!(".{number}")).unwrap_or_default();
                let started = pid_of(&self.name, &format!("{}{number}", process.process)).ok();
                process.state == "running" && process.pid == started.map(|pid| pid.as_raw())
            };
            Ok((status.processes.iter().all(is_well)).then_some(()))
        })
    }

    /// Stops Shunt by its supervisor and waits until that has ended.
    pub fn stop_shunt(&mut self) -> Result<()> {
        match self.supervisor.take() {
            Some(supervisor) => supervisor.stop(),
            None => {
                let pid = pid_of(&self.name, "supervisor")?;
                kill(pid, Signal::SIGTERM)?;
                until("the supervisor's end", || Ok(kill(pid, None).is_err().then_some(())))
            }
        }
    }

    /// Starts Shunt by its supervisor again, and waits until it serves.
    pub fn start_shunt(&mut self) -> Result<()> {
        let log = std::fs::File::options().append(true).create(true).open(self.log_path())?;
        self.supervisor = Some(Supervisor::start(&self.balancer(), &self.configuration_path(), log)?);
        self.await_running()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        runner::keep_log(&self.log().unwrap_or_default());
        if let Some(supervisor) = self.supervisor.take() {
            let _ = supervisor.stop();
        }
        if let Err(error) = self.order("down") {
            println!("laboratory {} is left behind: {error:#}", self.name);
        }
    }
}
