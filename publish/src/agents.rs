//! The agents: their keys, the backends that each may report, and their replay windows.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;

use shunt_config::{Feedback, Problem, Source};
use shunt_report::{AgentKey, Arrival, ConfigName, KeyError, LoadReport, ReplayWindow, ReportRefusal, open};
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::replay::ReplayPlace;

/// Why an agent's reports cannot be authenticated.
#[derive(Debug, thiserror::Error)]
#[error("agent {agent}: {path} {source}")]
pub struct KeyMissing {
    /// The agent's name.
    pub agent: String,
    /// Path of the key file.
    pub path: PathBuf,
    /// The error.
    pub source: KeyError,
}

impl KeyMissing {
    /// Returns true if only another account can read the file.
    pub fn is_denied(&self) -> bool {
        matches!(&self.source, KeyError::Unreadable(error) if error.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Adds file, line and field.
    pub fn problem(&self, source: &Source) -> Problem {
        let Self { agent, path, source: why } = self;
        source.problem(format!("agent.{agent}.key_file"), format!("{} {why}", path.display()))
    }
}

struct Agent {
    key: AgentKey,
    window: ReplayWindow,
    /// Persists the window's end for a restarted control.
    place: Option<&'static ReplayPlace<Writer>>,
    /// Whether its clock was ahead in its last report.
    is_ahead: bool,
}

/// All agents.
#[derive(Default)]
pub struct Agents {
    by_name: HashMap<String, Agent>,
    /// By backend: the only agent that may report it.
    speakers: HashMap<String, String>,
    /// Wall clock, microseconds since 1970.
    pub wall_us: u64,
    /// Agents newly found with a clock ahead, with their epochs.
    pub newly_ahead: Vec<(String, u64)>,
}

impl Agents {
    /// Loads the agents of a configuration and reads their keys. Reports of an agent without a key are refused; its
    /// backends count as silent.
    pub fn load(feedback: &Feedback) -> (Self, Vec<KeyMissing>) {
        let (mut agents, mut missing) = (Self::default(), Vec::new());
        for shunt_config::Agent { name, key_file, backends } in &feedback.agents {
            match AgentKey::load(key_file) {
                Ok(key) => agents.add(name, key, backends.iter().cloned()),
                Err(source) => {
                    agents.expect_from(name, backends.iter().cloned());
                    missing.push(KeyMissing { agent: name.clone(), path: key_file.clone(), source });
                }
            }
        }
        (agents, missing)
    }

    /// Adds an agent that may report these backends.
    pub fn add(&mut self, name: &str, key: AgentKey, backends: impl IntoIterator<Item = String>) {
        let agent = Agent { key, window: ReplayWindow::default(), place: None, is_ahead: false };
        self.by_name.insert(name.to_owned(), agent);
        self.expect_from(name, backends);
    }

    fn expect_from(&mut self, name: &str, backends: impl IntoIterator<Item = String>) {
        self.speakers.extend(backends.into_iter().map(|backend| (backend, name.to_owned())));
    }

    /// Keeps the state of agents whose name and key are unchanged. Datagrams authenticated with an old key cannot be
    /// replayed, so a new key starts a new window: replacing the key ends a lockout caused by a clock that was ahead.
    pub fn after(mut self, before: Self) -> Self {
        for (name, agent) in before.by_name {
            if let Some(same) = self.by_name.get_mut(&name).filter(|same| same.key == agent.key) {
                (same.window, same.is_ahead) = (agent.window, agent.is_ahead);
            }
        }
        (self.wall_us, self.newly_ahead) = (before.wall_us, before.newly_ahead);
        self
    }

    /// Resumes from `places` and persists into them from now on. An agent finds its place by name and key, even if it left
    /// the configuration in between, unless the place was reused.
    pub fn remember_in(&mut self, places: &'static [ReplayPlace<Writer>]) {
        let found: HashMap<u64, &'static ReplayPlace<Writer>> =
            places.iter().map(|place| (place.owner(), place)).collect();
        let owners: HashSet<u64> = self.by_name.iter().map(|(name, agent)| agent.key.identity(name)).collect();
        // Places that were never used come first.
        let mut free: Vec<_> = places.iter().filter(|place| !owners.contains(&place.owner())).collect();
        free.sort_by_key(|place| place.owner() != 0);
        let mut free = free.into_iter();
        for (name, agent) in &mut self.by_name {
            let owner = agent.key.identity(name);
            let known = found.get(&owner).copied();
            agent.place = known.or_else(|| free.next().inspect(|place| place.give_to(owner)));
            if let Some(place) = agent.place {
                agent.window.resume(place.read());
            }
        }
    }

    /// Opens a datagram; returns the report if it is authentic and new.
    pub fn admit(&mut self, datagram: &[u8]) -> Result<(LoadReport, Arrival), ReportRefusal> {
        let key_of = |name: &ConfigName| self.by_name.get(name.as_str()).map(|agent| &agent.key);
        let report = open(datagram, key_of)?;
        let agent = self.by_name.get_mut(report.agent.as_str()).ok_or(ReportRefusal::UnknownAgent)?;
        let arrival = agent.window.admit(&report, self.wall_us);
        let is_ahead = arrival == Err(ReportRefusal::EpochAhead);
        if is_ahead && !agent.is_ahead {
            self.newly_ahead.push((report.agent.to_string(), report.boot_epoch));
        }
        agent.is_ahead = is_ahead;
        let arrival = arrival?;
        // Written before the report takes effect. A late report changes nothing, and after a restart all up to the newest
        // count as admitted.
        if let (Arrival::Newest, Some(place)) = (arrival, agent.place) {
            place.write(report.boot_epoch, report.sequence);
        }
        Ok((report, arrival))
    }

    /// Returns true if the agent may report this backend.
    pub fn speaks_for(&self, agent: &str, backend: &str) -> bool {
        self.speakers.get(backend).is_some_and(|speaker| speaker == agent)
    }

    /// Returns true if any agent may report this backend.
    pub fn anybody_for(&self, backend: &str) -> bool {
        self.speakers.contains_key(backend)
    }
}
