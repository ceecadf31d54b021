//! Configuration errors, each with file, line, field and remedy.

use std::fmt;
use std::io;

/// Maximum number of problems that one message lists.
const PROBLEM_LIMIT: usize = 100;

/// Why a configuration was refused. No part of it takes effect.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be opened or read.
    #[error("{file}: cannot be read: {source}; check the path and its permissions")]
    Unreadable {
        /// The path as the operator gave it.
        file: String,
        /// The system's error.
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
        /// Size limit in bytes.
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
        /// Line (from 1) of the syntax error.
        line: usize,
        /// Column in characters (from 1).
        column: usize,
        /// The TOML parser's message.
        message: String,
        /// The remedy.
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
    /// The text is valid TOML with invalid contents. Contains all problems, in line order.
    #[error("{}", one_a_line(.0))]
    Refused(Vec<Problem>),
}

/// One problem in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The path as the operator gave it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Path of the field, as `service.web.backend.b1.address`.
    pub field: String,
    /// The problem and its remedy.
    pub sentence: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, field, sentence } = self;
        write!(f, "{file}:{line}: {field}: {sentence}")
    }
}

/// Lists the first problems only: the text goes through logs and replies of limited size.
fn one_a_line(problems: &[Problem]) -> String {
    let mut lines: Vec<String> = problems.iter().take(PROBLEM_LIMIT).map(Problem::to_string).collect();
    if problems.len() > PROBLEM_LIMIT {
        lines.push(format!("and {} more; mend these first", problems.len() - PROBLEM_LIMIT));
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
        assert!(told(PROBLEM_LIMIT).ends_with("a.toml:100: x: is wrong"));
        assert!(told(60_000).ends_with("a.toml:100: x: is wrong\nand 59900 more; mend these first"));
    }
}
