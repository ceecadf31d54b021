//! Operator commands and replies: the same types for both ends, one line of JSON each way.
//!
//! ```text
//! {"command":"reload"}                           {"ok":true,"services":2,"backends":5,"epoch":7}
//! {"command":"drain","backends":["b1","b2"]}     {"ok":true,"backends":["b1","b2"],"epoch":8}
//! {"command":"drain","hosts":["198.18.1.11"]}    {"ok":true,"backends":["b1","b1-echo"],"epoch":9}
//! {"command":"enable","backends":["b1"]}         {"ok":true,"backends":["b1"],"epoch":10}
//! {"command":"backends"}                         {"ok":true,"backends":[{"name":"b1",...}]}
//! {"command":"configuration"}                    {"ok":true,"file":"/etc/shunt/shunt.toml","refusal":null,...}
//! anything that can't be done                    {"ok":false,"error":"..."}
//! what was accepted and isn't in force yet       {"ok":false,"backends":["b1"],"error":"accepted, but ..."}
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// An operator command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Command {
    /// Read the configuration again.
    Reload,
    /// Take backends out of service: existing connections finish, new ones go elsewhere.
    Drain(Selection),
    /// Put backends back into service.
    Enable(Selection),
    /// Report what is not in shared memory: why each backend is up or down, and the progress of draining.
    Backends,
    /// Report the path of the configuration file and the result of the last reload.
    Configuration,
}

/// The backends that a command selects. It applies to all of them or to none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Backends by name.
    #[serde(default)]
    pub backends: Vec<String>,
    /// All backends at these addresses.
    #[serde(default)]
    pub hosts: Vec<IpAddr>,
}

impl Command {
    /// Parses one line.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line)
            .map_err(|error| format!("not an order: {error}; write for example {{\"command\":\"reload\"}} in one line"))
    }

    /// Encodes one line, with its terminator.
    pub fn line(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }
}

/// A command that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Accepted {
    /// The configuration was replaced.
    Reloaded {
        /// Number of services.
        services: usize,
        /// Number of backends.
        backends: usize,
    },
    /// Backends were taken out of service or put back.
    Changed {
        /// Their names.
        backends: Vec<String>,
    },
}

/// Whether a backend is in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendState {
    /// It takes new connections.
    Up,
    /// All of its checks fail.
    Down,
    /// The operator took it out of service.
    Drained,
    /// It left the configuration and still has connections.
    Removed,
}

/// The state of a backend that only control knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Its name.
    pub name: String,
    /// Address and port.
    pub address: String,
    /// Whether it is in service.
    pub state: BackendState,
    /// What its checks last found, and why.
    pub health: String,
    /// By service with load feedback: the reason for the backend's weight.
    pub feedback: BTreeMap<String, String>,
    /// Connections at the last count, which repeats every few seconds while a backend is drained or removed.
    pub connections: Option<u64>,
}

/// The configuration file as control last read it. The requester checks whether it is valid now: reading a large one takes
/// longer than control may block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStatus {
    /// Its path.
    pub file: String,
    /// Why control refused it at the last reload or at start; `None` if it was accepted.
    pub refusal: Option<String>,
    /// Whether saving the accepted configuration failed; a control that starts while the file is invalid needs the saved
    /// one.
    pub unsaved: bool,
    /// Agent keys that cannot be read, and why.
    pub missing_keys: Vec<String>,
    /// Problems with load reports.
    pub reports: ReportPath,
    /// Backends that are up but send no replies through the switchers.
    pub unanswered: Vec<UnansweredBackend>,
}

/// A backend that answers none of its connections through the switchers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnansweredBackend {
    /// Its name.
    pub name: String,
    /// Connections sent to it since its last answer.
    pub connections: u64,
    /// Time since the first of them was observed.
    pub age_ms: u64,
    /// Whether it has ever answered one.
    pub has_answered: bool,
}

/// The state of load reporting. All ages are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportPath {
    /// `feedback.listen`, and why control cannot listen there.
    pub not_listening: Option<(String, String)>,
    /// Agents that do not report.
    pub silent: Vec<SilentAgent>,
    /// Recently refused reports, by source and reason.
    pub refused: Vec<RefusedReports>,
}

/// An agent that does not report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilentAgent {
    /// Its name.
    pub name: String,
    /// Backends whose load is unknown.
    pub backends: Vec<String>,
    /// Time since its last report, or since control began to wait for the first one.
    pub age_ms: u64,
    /// Whether it has reported to this control process.
    pub has_reported: bool,
}

/// Reports from one source that were refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedReports {
    /// The sender's address.
    pub source: String,
    /// The agent that they name, which may not be the sender.
    pub agent: Option<String>,
    /// The agent that they name, which may not be their sender.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// Number of reports.
    pub age_ms: u64,
}

/// A reply. Decoding tries the variants in this order by their fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reply {
    /// The command is in force: every live switcher uses it.
    InForce {
        /// The accepted command.
        #[serde(flatten)]
        what: Accepted,
        /// The epoch that first contains it.
        epoch: u64,
    },
    /// The backends.
    Backends {
        /// Ordered by id.
        backends: Vec<BackendStatus>,
    },
    /// The configuration file.
    Configuration(FileStatus),
    /// The command was accepted but is not yet in force.
    Pending {
        /// The accepted command.
        #[serde(flatten)]
        what: Accepted,
        /// What delays it.
        error: String,
    },
    /// The command cannot be executed; nothing changed.
    Refused {
        /// The reason, and the remedy.
        error: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Line<R> {
    ok: bool,
    #[serde(flatten)]
    reply: R,
}

impl Reply {
    /// Encodes one line, with its terminator.
    pub fn line(&self) -> String {
        let text = serde_json::to_string(&Line { ok: self.is_ok(), reply: self });
        text.unwrap_or_else(|error| format!("{{\"ok\":false,\"error\":\"{error}\"}}")) + "\n"
    }

    /// Parses one line; `None` if this version of control would not write it.
    pub fn parse(line: &str) -> Option<Self> {
        let Line { ok, reply } = serde_json::from_str::<Line<Self>>(line).ok()?;
        (ok == reply.is_ok()).then_some(reply)
    }

    /// Returns true if the command is in force or answered.
    fn is_ok(&self) -> bool {
        match self {
            Self::InForce { .. } | Self::Backends { .. } | Self::Configuration(_) => true,
            Self::Pending { .. } | Self::Refused { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_told_apart_and_nonsense_is_refused() {
        let b1 = || Selection { backends: vec!["b1".into()], hosts: vec![] };
        let host = Selection { backends: vec![], hosts: vec![[198, 18, 1, 11].into()] };
        for (line, order) in [
            (r#"{"command":"reload"}"#, Command::Reload),
            (r#"{"command":"drain","backends":["b1"]}"#, Command::Drain(b1())),
            (r#"{"backends":["b1"],"command":"enable"}"#, Command::Enable(b1())),
            (r#"{"command":"drain","hosts":["198.18.1.11"]}"#, Command::Drain(host)),
            (r#"{"command":"backends"}"#, Command::Backends),
            (r#"{"command":"configuration"}"#, Command::Configuration),
        ] {
            assert_eq!(Command::parse(order.line().unwrap().as_bytes()).as_ref(), Ok(&order), "{line}");
            assert_eq!(Command::parse(line.as_bytes()), Ok(order));
        }
        for line in
            ["", "reload", "{}", r#"{"command":"drain","backend":"b1"}"#, r#"{"command":"stop"}"#, "\u{0}", "[["]
        {
            assert!(Command::parse(line.as_bytes()).unwrap_err().starts_with("not an order: "), "{line}");
        }
    }

    #[test]
    fn answers_are_one_line_each() {
        let reloaded = Reply::InForce { what: Accepted::Reloaded { services: 2, backends: 5 }, epoch: 7 };
        assert_eq!(reloaded.line(), "{\"ok\":true,\"services\":2,\"backends\":5,\"epoch\":7}\n");
        let refused = Reply::Refused { error: "shunt.toml:3: x\nshunt.toml:4: y".into() };
        assert_eq!(refused.line(), "{\"ok\":false,\"error\":\"shunt.toml:3: x\\nshunt.toml:4: y\"}\n");
    }

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let changed = || Accepted::Changed { backends: vec!["b1".into()] };
        let backend = |state| BackendStatus {
            name: "b1".into(),
            address: "198.18.1.1:80".into(),
            state,
            health: "not checked".into(),
            feedback: [("web".to_owned(), "says 50%".to_owned())].into(),
            connections: Some(3),
        };
        let file = FileStatus {
            file: "/etc/shunt/shunt.toml".into(),
            refusal: None,
            unsaved: true,
            missing_keys: vec!["a".into()],
            reports: ReportPath { not_listening: Some(("a".into(), "b".into())), ..ReportPath::default() },
            unanswered: Vec::new(),
        };
        let states = [BackendState::Up, BackendState::Down, BackendState::Drained, BackendState::Removed];
        for reply in [
            Reply::InForce { what: changed(), epoch: 8 },
            Reply::InForce { what: Accepted::Reloaded { services: 2, backends: 5 }, epoch: 7 },
            Reply::Backends { backends: Vec::new() },
            Reply::Backends { backends: states.map(backend).into() },
            Reply::Configuration(file),
            Reply::Pending { what: changed(), error: "switcher 1".into() },
            Reply::Pending { what: Accepted::Reloaded { services: 2, backends: 5 }, error: "switcher 1".into() },
            Reply::Refused { error: "no such backend".into() },
        ] {
            assert_eq!(Reply::parse(&reply.line()), Some(reply));
        }
        for line in [
            "",
            "{}",
            "[1]",
            "{\"ok\":false}",
            "{\"ok\":true,\"error\":\"x\"}",
            "{\"ok\":false,\"backends\":[\"b\"],\"epoch\":1}",
        ] {
            assert_eq!(Reply::parse(line), None, "{line}");
        }
    }
}
