//! What may be ordered, and what is answered: one type for both ends, one line of JSON each way.
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

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Command {
    /// Read the configuration again.
    Reload,
    /// Take backends out: their connections finish, new ones go elsewhere.
    Drain(Selection),
    /// Put backends back.
    Enable(Selection),
    /// Tell what isn't in shared memory: why each backend is up or down, and how far draining is.
    Backends,
    /// Tell which is the configuration file, and what came of the last reload.
    Configuration,
}

/// Which backends an order is about. It is carried out for all of them or for none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Those of these names.
    #[serde(default)]
    pub backends: Vec<String>,
    /// All those of these addresses.
    #[serde(default)]
    pub hosts: Vec<IpAddr>,
}

impl Command {
    /// From one line.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line)
            .map_err(|error| format!("not an order: {error}; write for example {{\"command\":\"reload\"}} in one line"))
    }

    /// As one line, with its end.
    pub fn line(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }
}

/// An order that is being carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Accepted {
    /// The configuration was taken over.
    Reloaded {
        /// How many services it has.
        services: usize,
        /// How many backends.
        backends: usize,
    },
    /// Backends were taken out or put back.
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
    /// The operator took it out.
    Drained,
    /// It left the configuration, and has connections.
    Removed,
}

/// A backend as only control knows it.
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
    /// By service that somebody reports about: why its weight is what it is.
    pub feedback: BTreeMap<String, String>,
    /// Its connections at the last count, which is made every few seconds while somebody is drained or removed.
    pub connections: Option<u64>,
}

/// The configuration file, as control read it last. Whether it is good now is for the asker to find out: reading a large one
/// takes longer than control may stand still.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStatus {
    /// Its path.
    pub file: String,
    /// Why it was refused when control last read it, at a reload or at its start; nothing if it was accepted.
    pub refusal: Option<String>,
    /// Whether what is in force couldn't be saved for a control that starts while the file is bad.
    pub unsaved: bool,
    /// Keys of agents that can't be read, and why.
    pub missing_keys: Vec<String>,
    /// What keeps load reports from counting.
    pub reports: ReportPath,
    /// Backends that are up, and whose replies don't come.
    pub unanswered: Vec<UnansweredBackend>,
}

/// A backend that answers none of its connections by the switchers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnansweredBackend {
    /// Its name.
    pub name: String,
    /// Connections sent to it since its last answer.
    pub connections: u64,
    /// How long ago the first of them was seen.
    pub age_ms: u64,
    /// Whether it ever answered one.
    pub has_answered: bool,
}

/// How load reports come in. All ages are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportPath {
    /// `feedback.listen` where control can't listen there, and why.
    pub not_listening: Option<(String, String)>,
    /// Agents that don't report.
    pub silent: Vec<SilentAgent>,
    /// Reports that were refused lately, by source and reason.
    pub refused: Vec<RefusedReports>,
}

/// An agent that doesn't report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilentAgent {
    /// Its name.
    pub name: String,
    /// Whose load isn't known.
    pub backends: Vec<String>,
    /// How long ago it last reported, or, if it never did, how long control has waited for it.
    pub age_ms: u64,
    /// Whether it ever reported to this control.
    pub has_reported: bool,
}

/// Reports from one source that were refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedReports {
    /// The sender's address.
    pub source: String,
    /// The agent that they name, which may not be the sender.
    pub agent: Option<String>,
    /// The name of the outcome.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// How long ago the last one came.
    pub age_ms: u64,
}

/// An answer. The variants are told apart by their fields, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reply {
    /// What was ordered is in force: every living switcher goes by it.
    InForce {
        /// What it was.
        #[serde(flatten)]
        what: Accepted,
        /// Since which epoch.
        epoch: u64,
    },
    /// The backends.
    Backends {
        /// By id.
        backends: Vec<BackendStatus>,
    },
    /// The configuration file.
    Configuration(FileStatus),
    /// It was accepted and stands, and isn't in force yet.
    Pending {
        /// What it was.
        #[serde(flatten)]
        what: Accepted,
        /// What is in the way.
        error: String,
    },
    /// It can't be done, and nothing changed.
    Refused {
        /// Why, and what to do.
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
    /// As one line, with its end.
    pub fn line(&self) -> String {
        let text = serde_json::to_string(&Line { ok: self.is_ok(), reply: self });
        text.unwrap_or_else(|error| format!("{{\"ok\":false,\"error\":\"{error}\"}}")) + "\n"
    }

    /// From one line; `None` if control of this version wouldn't write it.
    pub fn parse(line: &str) -> Option<Self> {
        let Line { ok, reply } = serde_json::from_str::<Line<Self>>(line).ok()?;
        (ok == reply.is_ok()).then_some(reply)
    }

    /// Whether what was ordered is done.
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
