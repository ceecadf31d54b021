//! What can be wrong with a configuration, each said with file, line, field and the way out.

use std::fmt;
use std::io;

/// Problems of one file that a refusal tells.
const MOST_TOLD: usize = 100;

/// Why a configuration was refused. Nothing of it was used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be opened or read.
    #[error("{file}: cannot be read: {source}; check the path and its permissions")]
    Unreadable {
        /// The path as the operator gave it.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The path names a directory, a FIFO, a device or a socket.
    #[error("{file}: is a {kind}, not a regular file; give the path of the TOML file itself")]
    NotAFile {
        /// The path as the operator gave it.
        file: String,
        /// What the path names instead.
        kind: &'static str,
    },
    /// The file is larger than any sensible configuration.
    #[error(
        "{file}: is larger than {limit_bytes} bytes, which no configuration needs; check that the path is the right one"
    )]
    TooLarge {
        /// The path as the operator gave it.
        file: String,
        /// The most that is read.
        limit_bytes: u64,
    },
    /// The file is not text.
    #[error("{file}:{line}: is not UTF-8 text; save the file as UTF-8, or check that the path is the right one")]
    NotUtf8 {
        /// The path as the operator gave it.
        file: String,
        /// Line (from 1) of the first byte that is not UTF-8.
        line: usize,
    },
    /// The file holds nothing.
    #[error("{file}:1: is empty; deploy/examples shows what to write")]
    Empty {
        /// The path as the operator gave it.
        file: String,
    },
    /// The text is not TOML, as of a file that was only half written.
    #[error("{file}:{line}: is not TOML: {message} (column {column}); {mend}")]
    Syntax {
        /// The path as the operator gave it.
        file: String,
        /// Line (from 1) at which the text stops making sense.
        line: usize,
        /// Character (from 1) in that line.
        column: usize,
        /// What the TOML parser expected there.
        message: String,
        /// What to do.
        mend: String,
    },
    /// A file for `shunt-agent`, where one for Shunt was expected.
    #[error(
        "{file}: is an agent's configuration, not Shunt's; give it to shunt-agent --config on the back-end server. \
         Shunt's has [switchers], [[interface]] and [[service]] (deploy/examples/minimal.toml)"
    )]
    AgentsFile {
        /// The path as the operator gave it.
        file: String,
    },
    /// A file for Shunt, where one for `shunt-agent` was expected.
    #[error(
        "{file}: is Shunt's configuration, not an agent's; `shunt check` and deploy/shunt-supervisor take it. \
         An agent's has name, control and [[backend]] (deploy/examples/agent.toml)"
    )]
    ShuntsFile {
        /// The path as the operator gave it.
        file: String,
    },
    /// The text is TOML, but says something that Shunt cannot do. All that is wrong, in the order of the lines.
    #[error("{}", one_a_line(.0))]
    Refused(Vec<Problem>),
}

/// One thing that is wrong in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The path as the operator gave it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Path of the field, as `service.web.backend.b1.address`.
    pub field: String,
    /// What is wrong and what to do.
    pub sentence: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, field, sentence } = self;
        write!(f, "{file}:{line}: {field}: {sentence}")
    }
}

/// The first ones: the text goes through logs and answers, which have room for so many.
fn one_a_line(problems: &[Problem]) -> String {
    let mut lines: Vec<String> = problems.iter().take(MOST_TOLD).map(Problem::to_string).collect();
    if problems.len() > MOST_TOLD {
        lines.push(format!("and {} more; mend these first", problems.len() - MOST_TOLD));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_problems_are_counted_after_the_first() {
        let problem = |line| Problem { file: "a.toml".into(), line, field: "x".into(), sentence: "is wrong".into() };
        let told = |count| ConfigError::Refused((1..=count).map(problem).collect()).to_string();
        assert!(told(MOST_TOLD).ends_with("a.toml:100: x: is wrong"));
        assert!(told(60_000).ends_with("a.toml:100: x: is wrong\nand 59900 more; mend these first"));
    }
}
