//! Who may report, about whom, and which of their reports came before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use shunt_agent::report::{Arrival, Key, KeyError, Name, Refusal, ReplayWindow, Report, open};
use shunt_config::Feedback;

/// Why the agents of a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AgentsError {
    /// The key can't.
    #[error("the key of agent {agent}, {path}, {source}")]
    Key {
        /// Whose.
        agent: String,
        /// Where.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
}

struct Agent {
    key: Key,
    backends: BTreeSet<String>,
    window: ReplayWindow,
}

/// Every agent by its name.
#[derive(Default)]
pub struct Agents(BTreeMap<String, Agent>);

impl Agents {
    /// Those of a configuration, with their keys read from the files.
    pub fn load(feedback: &Feedback) -> Result<Self, AgentsError> {
        let mut agents = Self::default();
        for agent in &feedback.agents {
            let key = Key::load(&agent.key_file).map_err(|source| AgentsError::Key {
                agent: agent.name.clone(),
                path: agent.key_file.clone(),
                source,
            })?;
            agents.add(&agent.name, key, agent.backends.iter().cloned());
        }
        Ok(agents)
    }

    /// Adds one that may speak for these backends.
    pub fn add(&mut self, name: &str, key: Key, backends: impl IntoIterator<Item = String>) {
        let agent = Agent { key, backends: backends.into_iter().collect(), window: ReplayWindow::default() };
        self.0.insert(name.to_owned(), agent);
    }

    /// These, with what is remembered of the same names.
    pub fn after(mut self, before: Self) -> Self {
        for (name, agent) in before.0 {
            if let Some(same) = self.0.get_mut(&name) {
                same.window = agent.window;
            }
        }
        self
    }

    /// The report in a datagram, if it is authentic and new.
    pub fn admit(&mut self, datagram: &[u8]) -> Result<(Report, Arrival), Refusal> {
        let key_of = |name: &Name| self.0.get(name.as_str()).map(|agent| &agent.key);
        let report = open(datagram, key_of)?;
        let agent = self.0.get_mut(report.agent.as_str()).ok_or(Refusal::UnknownAgent)?;
        let arrival = agent.window.admit(&report)?;
        Ok((report, arrival))
    }

    /// Whether this backend is the agent's.
    pub fn speaks_for(&self, agent: &str, backend: &str) -> bool {
        self.0.get(agent).is_some_and(|agent| agent.backends.contains(backend))
    }

    /// Whether this backend is any agent's.
    pub fn anybody_for(&self, backend: &str) -> bool {
        self.0.values().any(|agent| agent.backends.contains(backend))
    }
}
