//! The agent's file as an operator meets it: what is accepted, and how everything else is refused.
#![allow(missing_docs)]

use proptest::prelude::*;
use shunt_agent::settings::Settings;
use shunt_config::ConfigError;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Each needs its key, which must be a secret.
fn with_key(text: &str) -> (String, tempfile::NamedTempFile) {
    let mut key = tempfile::NamedTempFile::new().unwrap();
    key.write_all(&[b'k'; 32]).unwrap();
    (text.replace("KEY", &key.path().display().to_string()), key)
}

fn refusals(text: &str) -> Vec<String> {
    let (text, _key) = with_key(text);
    match Settings::parse(&text, "agent.toml") {
        Ok(_) => Vec::new(),
        Err(ConfigError::Refused(problems)) => problems.iter().map(ToString::to_string).collect(),
        Err(other) => vec![other.to_string()],
    }
}

const SMALLEST: &str = r#"name = "server-1"
control = "198.18.1.1:7946"
key_file = "KEY"
[[backend]]
name = "b1"
port = 8080
"#;

#[test]
fn shunts_own_file_is_called_one() {
    let shunts = include_str!("../../deploy/examples/minimal.toml");
    let expected = "agent.toml: is Shunt's configuration, not an agent's; `shunt check` and deploy/shunt-supervisor take it. \
                    An agent's has name, control and [[backend]] (deploy/examples/agent.toml)";
    assert_eq!(refusals(shunts), [expected]);
}

#[test]
fn the_smallest_file_has_the_defaults() {
    let (text, _key) = with_key(SMALLEST);
    let settings = Settings::parse(&text, "agent.toml").unwrap();
    assert_eq!(settings.name.as_str(), "server-1");
    assert_eq!((settings.period, settings.look_interval), (Duration::from_millis(50), Duration::from_millis(50)));
    assert_eq!(settings.sharp_permille, 500);
    let backend = &settings.backends[0];
    assert_eq!((backend.name.as_str(), backend.port, backend.is_tcp), ("b1", 8080, true));
    assert!(!backend.is_elsewhere);
}

#[test]
fn the_example_is_accepted_but_for_its_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/agent.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (text, _key) = with_key(&text.replace("/run/credentials/shunt-agent.service/agent.key", "KEY"));
    let settings = Settings::parse(&text, "agent.toml").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(settings.backends.len(), 4);
    assert!(settings.backends[0].nginx.is_some() && settings.backends[1].prometheus.is_some());
    assert_eq!(settings.backends[0].workers, Some(16));
    let page = settings.backends[1].prometheus.as_ref().expect("a page");
    assert_eq!(page.metrics.workers.as_deref(), Some("http_workers"));
    assert!(settings.backends[2].statsd.is_some() && settings.backends[3].command.is_some());
}

#[test]
fn all_that_is_wrong_is_said_with_line_field_and_remedy() {
    let text = r#"name = "server 1"
control = "balancer:7946"
key_file = "/nonexistent"
period_ms = 10
look_ms = 500
statsd_socket = "statsd.sock"
speed = 1
[[backend]]
name = "b1"
port = 0
agent_check = "0.0.0.0:0"
[backend.nginx]
path = "status"
[[backend]]
name = "b1"
[backend.prometheus]
address = "127.0.0.1:9100"
in_flight = "up{job='x'}"
[[backend]]
name = "b2"
port = 81
[backend.command]
run = ""
timeout_ms = 2000
"#;
    let expected = [
        "1: name: \"server 1\" is not a name: write 1 to 31 letters, digits, '.', '_' and '-'",
        "2: control: \"balancer:7946\" is not an address and port; write for example \"198.18.1.1:7946\"",
        "3: key_file: cannot be read: No such file or directory (os error 2); check the path and its permissions",
        "4: period_ms: is 10; write a whole number from 20 to 1000",
        "5: look_ms: 500 is more than period_ms, 50; lower it, or leave it out",
        "6: statsd_socket: \"statsd.sock\" is not an absolute path; write one that starts with '/'",
        "7: speed: is an unknown key; the keys here are name, control, key_file, period_ms, look_ms, sharp_permille, \
         epoch_file, statsd_socket, backend",
        "10: backend.b1.port: is 0; write a whole number from 1 to 65535",
        "11: backend.b1.agent_check: \"0.0.0.0:0\" is not an address and port; write for example \"0.0.0.0:7947\"",
        "12: backend.b1.nginx.address: is missing; write for example address = \"127.0.0.1:8081\"",
        "13: backend.b1.nginx.path: \"status\" is not a path: it starts with '/' and has neither spaces nor letters \
         beyond ASCII; write for example \"/stub_status\"",
        "14: backend.b1.port: is missing; write for example port = 8080",
        "15: backend.b1.name: \"b1\" is another back-end's name, in line 9; change one of both",
        "18: backend.b1.prometheus.in_flight: \"up{job='x'}\" is not a metric's name: write 1 to 128 letters, digits, '_', \
         ':', '.' and '-', without labels",
        "23: backend.b2.command.run: \"\" is not a command; write for example \"/usr/local/bin/load\"",
        "24: backend.b2.command.timeout_ms: 2000 is more than interval_ms, 1000; it must end before the next: lower it, or \
         raise interval_ms",
    ];
    let found = refusals(text);
    let expected: Vec<String> = expected.iter().map(|line| format!("agent.toml:{line}")).collect();
    assert_eq!(found, expected);
}

#[test]
fn what_belongs_together_must_be_together() {
    let assert_refused = |from: &str, to: &str, part: &str| {
        let found = refusals(&SMALLEST.replace(from, to));
        assert!(found.len() == 1 && found[0].contains(part), "{to}: {found:?}");
    };
    assert_refused("key_file = \"KEY\"\n", "", "agent.toml:1: key_file: is missing");
    assert_refused("control = \"198.18.1.1:7946\"\n", "", "does nothing without control");
    assert_refused(
        "control = \"198.18.1.1:7946\"\nkey_file = \"KEY\"\n",
        "",
        "agent.toml:1: control: is missing, and no back-end has agent_check",
    );
    assert_refused("port = 8080", "port = 8080\nlistener = \"away\"", "write one of \"here\", \"elsewhere\"");
    assert_refused("[[backend]]", "statsd_socket = \"/x\"\n[[backend]]", "does nothing without a [backend.statsd]");
    assert_refused(
        "port = 8080\n",
        "port = 8080\n[backend.statsd]\nrequests = \"r\"\n",
        "write statsd_socket at the top",
    );
    assert_refused(
        "port = 8080\n",
        "port = 8080\n[backend.prometheus]\naddress = \"[::1]:1\"\n",
        "names nothing to read",
    );
    assert_refused(
        "port = 8080\n",
        "port = 8080\n[[backend]]\nname = \"b2\"\nport = 8080\n",
        "another back-end's port",
    );
    let many: String = (1..=17).map(|n| format!("[[backend]]\nname = \"c{n}\"\nport = {n}\n")).collect();
    assert_refused(
        "[[backend]]\nname = \"b1\"\nport = 8080\n",
        &many,
        "one back-end more than a report has room for, 15",
    );
    let public = tempfile::NamedTempFile::new().unwrap();
    std::fs::set_permissions(public.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let shown = public.path().display().to_string();
    assert_refused("KEY", &shown, "agent.toml:3: key_file: has mode 0644, so that others may read or write it");
}

proptest! {
    #[test]
    fn any_text_is_refused_with_its_lines(changes in prop::collection::vec((any::<prop::sample::Index>(), "[a-z\\[\\]{}=\"0-9.: \n]{0,12}"), 1..4)) {
        let mut lines: Vec<String> = SMALLEST.lines().map(str::to_owned).collect();
        for (index, text) in changes {
            *index.get_mut(&mut lines) = text;
        }
        let text = lines.join("\n");
        if let Err(ConfigError::Refused(problems)) = Settings::parse(&text, "agent.toml") {
            prop_assert!(!problems.is_empty());
            let last = 1 + text.matches('\n').count();
            prop_assert!(problems.iter().all(|problem| (1..=last).contains(&problem.line)), "{problems:?}");
        }
    }
}
