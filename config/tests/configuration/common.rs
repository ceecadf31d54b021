//! A valid configuration, and ways to spoil it.

use shunt_config::{Config, ConfigError};

/// Lines are referred to by number in the tests.
pub const VALID: &str = r#"instance = "shunt"
user = "nobody"
[switchers]
cpus = [2, 3]
idle = "spin"
[[interface]]
name = "eth0"
side = "both"
port = "auto"
mode = "auto"
queues = { "0" = 0, "1" = 1 }
[limits]
frames = 16384
ring = 256
[timeouts]
udp = 120
[[service]]
name = "web"
address = "198.18.0.100:80"
protocol = "tcp"
mode = "nat"
slots = 4099
[service.health]
kind = "http"
path = "/"
[[service.backend]]
name = "b1"
address = "198.18.1.11:8080"
[[service.backend]]
name = "b2"
address = "198.18.1.12:8080"
weight = 2
[[service]]
name = "dns"
address = "198.18.0.100:53"
protocol = "udp"
mode = "dsr"
[[service.backend]]
name = "ns1"
address = "198.18.1.21:53"
"#;

/// [`VALID`] with each numbered line replaced.
pub fn spoil(replacements: &[(usize, &str)]) -> String {
    let mut lines: Vec<&str> = VALID.lines().collect();
    for (number, replacement) in replacements {
        lines[number - 1] = replacement;
    }
    lines.join("\n") + "\n"
}

/// What `shunt check` would print about `text`.
pub fn refusals(text: &str) -> Vec<String> {
    match Config::parse(text, "shunt.toml") {
        Ok(_) => Vec::new(),
        Err(ConfigError::Refused(problems)) => problems.iter().map(ToString::to_string).collect(),
        Err(other) => vec![other.to_string()],
    }
}

/// Each case: line of [`VALID`], what it becomes, and the one refusal that follows, after `shunt.toml:LINE: `.
pub fn assert_refused(cases: &[(usize, &str, &str)]) {
    for (line, replacement, expected) in cases {
        let expected = format!("shunt.toml:{line}: {expected}");
        assert_eq!(refusals(&spoil(&[(*line, replacement)])), [expected], "line {line}: {replacement}");
    }
}
