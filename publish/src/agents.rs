//! Who may report, about whom, and which of their reports came before.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;

use shunt_config::{Feedback, Problem, Source};
use shunt_report::{Arrival, Key, KeyError, Name, Refusal, ReplayWindow, Report, open};
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::replay::ReplayPlace;

/// Why an agent's reports can't be believed.
#[derive(Debug, thiserror::Error)]
#[error("agent {agent}: {path} {source}")]
pub struct KeyMissing {
    /// Whose key.
    pub agent: String,
    /// Where it should be.
    pub path: PathBuf,
    /// Why it can't be used.
    pub source: KeyError,
}

impl KeyMissing {
    /// Whether only another account can say more.
    pub fn is_denied(&self) -> bool {
        matches!(&self.source, KeyError::Unreadable(error) if error.kind() == io::ErrorKind::PermissionDenied)
    }

    /// The same with file, line and field.
    pub fn problem(&self, source: &Source) -> Problem {
        let Self { agent, path, source: why } = self;
        source.problem(format!("agent.{agent}.key_file"), format!("{} {why}", path.display()))
    }
}

struct Agent {
    key: Key,
    window: ReplayWindow,
    /// Where the window's end is written down for a control that starts again.
    place: Option<&'static ReplayPlace<Writer>>,
    /// Its last report was refused for its clock.
    is_ahead: bool,
}

/// Every agent.
#[derive(Default)]
pub struct Agents {
    by_name: HashMap<String, Agent>,
    /// By backend: the one agent that may speak for it.
    speakers: HashMap<String, String>,
    /// What the clock says, microseconds since 1970.
    pub wall_us: u64,
    /// Agents whose clocks were found ahead, with their epochs.
    pub newly_ahead: Vec<(String, u64)>,
}

impl Agents {
    /// Those of a configuration, with their keys read from the files. One without a key is never believed: its backends
    /// count as silent.
    pub fn load(feedback: &Feedback) -> (Self, Vec<KeyMissing>) {
        let (mut agents, mut missing) = (Self::default(), Vec::new());
        for shunt_config::Agent { name, key_file, backends } in &feedback.agents {
            match Key::load(key_file) {
                Ok(key) => agents.add(name, key, backends.iter().cloned()),
                Err(source) => {
                    agents.expect_from(name, backends.iter().cloned());
                    missing.push(KeyMissing { agent: name.clone(), path: key_file.clone(), source });
                }
            }
        }
        (agents, missing)
    }

    /// Adds one that may speak for these backends.
    pub fn add(&mut self, name: &str, key: Key, backends: impl IntoIterator<Item = String>) {
        let agent = Agent { key, window: ReplayWindow::default(), place: None, is_ahead: false };
        self.by_name.insert(name.to_owned(), agent);
        self.expect_from(name, backends);
    }

    fn expect_from(&mut self, name: &str, backends: impl IntoIterator<Item = String>) {
        self.speakers.extend(backends.into_iter().map(|backend| (backend, name.to_owned())));
    }

    /// These, with what is remembered of the same names with the same keys. What an old key sealed can't be sent again, so a
    /// new one begins anew: replacing the key ends a lockout by a clock that was ahead.
    pub fn after(mut self, before: Self) -> Self {
        for (name, agent) in before.by_name {
            if let Some(same) = self.by_name.get_mut(&name).filter(|same| same.key == agent.key) {
                (same.window, same.is_ahead) = (agent.window, agent.is_ahead);
            }
        }
        (self.wall_us, self.newly_ahead) = (before.wall_us, before.newly_ahead);
        self
    }

    /// Goes on where `places` end, and keeps them up from now on. An agent finds what it has there by name and key, also if it
    /// left the configuration meanwhile and nobody needed the place.
    pub fn remember_in(&mut self, places: &'static [ReplayPlace<Writer>]) {
        let found: HashMap<u64, &'static ReplayPlace<Writer>> =
            places.iter().map(|place| (place.owner(), place)).collect();
        let owners: HashSet<u64> = self.by_name.iter().map(|(name, agent)| agent.key.identity(name)).collect();
        // Those that nobody ever had first.
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

    /// The report in a datagram, if it is authentic and new.
    pub fn admit(&mut self, datagram: &[u8]) -> Result<(Report, Arrival), Refusal> {
        let key_of = |name: &Name| self.by_name.get(name.as_str()).map(|agent| &agent.key);
        let report = open(datagram, key_of)?;
        let agent = self.by_name.get_mut(report.agent.as_str()).ok_or(Refusal::UnknownAgent)?;
        let arrival = agent.window.admit(&report, self.wall_us);
        let is_ahead = arrival == Err(Refusal::EpochAhead);
        if is_ahead && !agent.is_ahead {
            self.newly_ahead.push((report.agent.to_string(), report.boot_epoch));
        }
        agent.is_ahead = is_ahead;
        let arrival = arrival?;
        // Before it counts. One that is late changes nothing, and after a restart all up to the newest are taken for admitted.
        if let (Arrival::Newest, Some(place)) = (arrival, agent.place) {
            place.write(report.boot_epoch, report.sequence);
        }
        Ok((report, arrival))
    }

    /// Whether this backend is the agent's.
    pub fn speaks_for(&self, agent: &str, backend: &str) -> bool {
        self.speakers.get(backend).is_some_and(|speaker| speaker == agent)
    }

    /// Whether this backend is any agent's.
    pub fn anybody_for(&self, backend: &str) -> bool {
        self.speakers.contains_key(backend)
    }
}
