//! The operator's view: the `shunt` command and what it prints.

use crate::wait::until;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// `shunt status`.
#[derive(Debug, Deserialize)]
pub struct Status {
    /// The active configuration epoch.
    pub epoch: u64,
    /// Reloads refused since the start.
    pub reloads_refused: u64,
    /// When a reload was last accepted.
    pub reloaded_ms: u64,
    /// The keeper, control, each switcher.
    pub processes: Vec<Process>,
    /// By interface and switcher.
    pub ports: Vec<Port>,
    /// The pseudo-interface, if there is one.
    pub host: Option<Host>,
    /// What became of all frames.
    pub traffic: Traffic,
    /// What became of reports of load.
    pub reports: Vec<ReportCount>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Deserialize)]
pub struct Problem {
    /// What it is.
    pub code: String,
    /// What it is about.
    pub object: String,
}

/// The pseudo-interface in the status.
#[derive(Debug, Deserialize)]
pub struct Host {
    /// The device.
    pub device: String,
    /// The packet store of each switcher.
    pub stores: Vec<Store>,
    /// What the interface daemon dropped.
    pub drops: Vec<Drop>,
}

/// How many reports of load became one thing.
#[derive(Debug, Deserialize)]
pub struct ReportCount {
    /// Its name.
    pub outcome: String,
    /// How many.
    pub count: u64,
}

/// A packet store in the status.
#[derive(Debug, Deserialize)]
pub struct Store {
    /// From the switcher to the host.
    pub to_host: Ring,
    /// From the host to the switcher.
    pub from_host: Ring,
    /// Wake-ups sent.
    pub wakes: u64,
}

/// A ring of a packet store.
#[derive(Debug, Deserialize)]
pub struct Ring {
    /// Packets that went through.
    pub packets: u64,
}

/// What was dropped for one reason.
#[derive(Debug, Deserialize)]
pub struct Drop {
    /// The reason's name.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// One process in the status.
#[derive(Debug, Deserialize)]
pub struct Process {
    /// Its kind.
    pub process: String,
    /// Which switcher.
    pub number: Option<u16>,
    /// Its pid.
    pub pid: Option<i32>,
    /// `running`, or what is wrong.
    pub state: String,
}

/// One interface as a switcher uses it.
#[derive(Debug, Deserialize)]
pub struct Port {
    /// The interface.
    pub interface: String,
    /// The switcher.
    pub switcher: u16,
    /// Its queues.
    pub queues: Vec<Queue>,
    /// Frames received.
    pub received: u64,
}

/// One queue of an interface.
#[derive(Debug, Deserialize)]
pub struct Queue {
    /// Whether it receives, too.
    pub receives: bool,
    /// `af_xdp` or `af_packet`.
    pub kind: String,
    /// `native-copy` and the like.
    pub mode: String,
    /// Whether the switcher fetches packets from the device itself.
    pub busy_polls: bool,
    /// Whether a thread of the kernel's on the switcher's CPU receives them.
    pub threaded: bool,
}

/// What became of all frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Traffic {
    /// Taken from receive queues.
    pub received: u64,
    /// Placed into transmit queues.
    pub sent: u64,
    /// Dropped.
    pub dropped: u64,
    /// Left to the kernel.
    pub passed: u64,
}

impl Traffic {
    /// Frames of which nobody says what became of them.
    pub fn unaccounted(self) -> i64 {
        self.received.wrapping_sub(self.sent + self.dropped + self.passed) as i64
    }
}

/// One backend in `shunt backends`.
#[derive(Debug, Deserialize)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// `up`, `down`, `drained`, `removed`.
    pub state: String,
    /// What its checks found, from control.
    pub health: Option<String>,
    /// Its part in each service.
    pub services: Vec<Member>,
    /// Connections in flight.
    pub active_connections: u64,
    /// Connections recorded since the start.
    pub opened: u64,
}

/// A backend's part in a service.
#[derive(Debug, Deserialize)]
pub struct Member {
    /// The service.
    pub service: String,
    /// Why feedback gives it the weight that it has.
    pub why: Option<String>,
    /// Its share, if the service's algorithm uses slots.
    pub slots_percent: Option<f64>,
}

#[derive(Deserialize)]
struct Backends {
    backends: Vec<Backend>,
}

/// One service in `shunt services`: what the configuration says of it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Address and port.
    pub address: String,
    /// `nat` or `dsr`.
    pub mode: String,
    /// `up` and the like.
    pub state: String,
    /// Backends that are up.
    pub backends_up: usize,
    /// Backends configured.
    pub backends_total: usize,
    /// Connections that went to another backend.
    pub moved: u64,
    /// Connections that were reset because of their backend.
    pub reset: u64,
}

#[derive(Deserialize)]
struct Services {
    services: Vec<Service>,
}

/// `shunt drops`.
#[derive(Debug, Deserialize)]
pub struct Drops {
    drops: Vec<Refusals>,
    notices: Vec<Notice>,
}

#[derive(Debug, Deserialize)]
struct Refusals {
    reason: String,
    answered: u64,
}

#[derive(Debug, Deserialize)]
struct Notice {
    notice: String,
    count: u64,
}

impl Drops {
    /// Frames refused with an answer for this reason.
    pub fn answered(&self, reason: &str) -> u64 {
        self.drops.iter().find(|row| row.reason == reason).map_or(0, |row| row.answered)
    }

    /// How often this was noted.
    pub fn noted(&self, notice: &str) -> u64 {
        self.notices.iter().find(|row| row.notice == notice).map_or(0, |row| row.count)
    }
}

/// Somebody who gives orders to one instance.
#[derive(Clone, Debug)]
pub struct Operator {
    instance: String,
}

impl Operator {
    /// Of this instance.
    pub fn of(instance: impl Into<String>) -> Self {
        Self { instance: instance.into() }
    }

    /// `shunt ARGUMENTS`, whatever comes of it.
    pub fn try_order(&self, arguments: &str) -> Result<Output> {
        let mut command = Command::new(binaries()?.join("shunt"));
        command.args(["--instance", &self.instance]).args(arguments.split_whitespace());
        command.output().context("shunt")
    }

    /// `shunt ARGUMENTS`, which must succeed; what it printed.
    pub fn order(&self, arguments: &str) -> Result<String> {
        let output = self.try_order(arguments)?;
        ensure!(output.status.success(), "shunt {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    fn ask<T: DeserializeOwned>(&self, what: &str) -> Result<T> {
        let text = self.order(&format!("{what} --json"))?;
        serde_json::from_str(&text).with_context(|| format!("shunt {what} --json printed {text}"))
    }

    /// `shunt status`, whatever is wrong.
    pub fn status(&self) -> Result<Status> {
        let output = self.try_order("status --json")?;
        let said = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&said)
            .with_context(|| format!("shunt status: {said}{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// `shunt services`.
    pub fn services(&self) -> Result<Vec<Service>> {
        Ok(self.ask::<Services>("services")?.services)
    }

    /// One of them.
    pub fn service(&self, name: &str) -> Result<Service> {
        let found = self.services()?.into_iter().find(|service| service.name == name);
        found.with_context(|| format!("shunt services shows no {name}"))
    }

    /// `shunt drops`.
    pub fn drops(&self) -> Result<Drops> {
        self.ask("drops")
    }

    /// `shunt backends`.
    pub fn backends(&self) -> Result<Vec<Backend>> {
        Ok(self.ask::<Backends>("backends")?.backends)
    }

    /// One of them.
    pub fn backend(&self, name: &str) -> Result<Backend> {
        let found = self.backends()?.into_iter().find(|backend| backend.name == name);
        found.with_context(|| format!("shunt backends shows no {name}"))
    }

    /// Waits until these backends are in this state.
    pub fn await_state(&self, names: &[&str], state: &str) -> Result<()> {
        until(&format!("{names:?} {state}"), || {
            let backends = self.backends()?;
            let is = |name: &&str| backends.iter().any(|backend| backend.name == **name && backend.state == state);
            Ok(names.iter().all(is).then_some(()))
        })
    }

    /// Waits until every frame received is accounted for but those that killed switchers had in hand, `most` at the
    /// most. The counters aren't read at one moment: frames in hand make a difference that passes, lost ones stay.
    pub fn await_balance(&self, most: i64) -> Result<()> {
        let what = format!("received = sent + dropped + passed, but for 0 to {most}");
        let balanced = until(&what, || {
            let traffic = self.status()?.traffic;
            Ok((0..=most).contains(&traffic.unaccounted()).then_some(()))
        });
        balanced.with_context(|| format!("{:?}", self.status().map(|status| status.traffic)))
    }
}

/// The folder of Shunt's binaries: `SHUNT_BIN`, else the release build.
pub fn binaries() -> Result<PathBuf> {
    let folder = match (std::env::var_os("SHUNT_BIN"), std::env::var_os("CARGO_TARGET_DIR")) {
        (Some(folder), _) => PathBuf::from(folder),
        (None, Some(target)) => Path::new(&target).join("release"),
        (None, None) => root().join("target/release"),
    };
    let folder = std::path::absolute(folder)?;
    ensure!(
        folder.join("shunt-switcher").is_file(),
        "{} has no binaries of Shunt; run 'cargo build --release', or set SHUNT_BIN",
        folder.display()
    );
    Ok(folder)
}

/// The top of the source tree.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a folder of the workspace").to_owned()
}
