//! Who may report, about whom, and which of their reports came before.

use std::collections::HashMap;
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
    window: ReplayWindow,
}

/// Every agent.
#[derive(Default)]
pub struct Agents {
    by_name: HashMap<String, Agent>,
    /// By backend: the one agent that may speak for it.
    speakers: HashMap<String, String>,
}

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
        self.by_name.insert(name.to_owned(), Agent { key, window: ReplayWindow::default() });
        self.speakers.extend(backends.into_iter().map(|backend| (backend, name.to_owned())));
    }

    /// These, with what is remembered of the same names.
    pub fn after(mut self, before: Self) -> Self {
        for (name, agent) in before.by_name {
            if let Some(same) = self.by_name.get_mut(&name) {
                same.window = agent.window;
            }
        }
        self
    }

    /// The report in a datagram, if it is authentic and new.
    pub fn admit(&mut self, datagram: &[u8]) -> Result<(Report, Arrival), Refusal> {
        let key_of = |name: &Name| self.by_name.get(name.as_str()).map(|agent| &agent.key);
        let report = open(datagram, key_of)?;
        let agent = self.by_name.get_mut(report.agent.as_str()).ok_or(Refusal::UnknownAgent)?;
        let arrival = agent.window.admit(&report)?;
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
