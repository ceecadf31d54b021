//! The `shunt` command as a process: exit status, and which stream says what.

use std::path::Path;
use std::process::{Command, Output};

fn shunt(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shunt")).args(arguments).env_remove("SHUNT_INSTANCE").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples").join(name).display().to_string()
}

#[test]
fn an_instance_that_does_not_run_is_named_and_fails() {
    let name = format!("t-{}-absent", std::process::id());
    let status = shunt(&["--instance", &name, "status"]);
    assert_eq!(status.status.code(), Some(2));
    assert!(text(&status.stdout).starts_with(&format!("! not_running: instance {name}: ")), "{status:?}");
    let status = shunt(&["--instance", &name, "status", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((status.status.code(), &value["problems"][0]["code"]), (Some(2), &"not_running".into()));
    for command in ["services", "backends", "connections", "drops"] {
        let output = shunt(&["--instance", &name, command]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(text(&output.stderr).contains(&format!("instance {name} is not running")), "{command}");
        assert!(output.stdout.is_empty(), "{command}");
    }
    for command in [&["drain", "b1"][..], &["enable", "b1"], &["reload"]] {
        let output = shunt(&[&["--instance", &name], command].concat());
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        assert!(text(&output.stderr).contains(&format!("instance {name} is not running; ")), "{command:?}");
    }
}

/// A variable that names no instance, as any reason that an instance can't be looked at.
#[test]
fn a_status_that_is_not_known_is_json_too() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shunt"));
    let output = command.args(["status", "--json"]).env("SHUNT_INSTANCE", "No Name").output().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &value["health"]), (Some(3), &"unknown".into()));
    assert!(value["error"].as_str().unwrap().contains("SHUNT_INSTANCE"), "{value}");
    assert!(text(&output.stderr).contains("SHUNT_INSTANCE"), "people read it as before");
}

#[test]
fn a_configuration_is_accepted_with_0_and_refused_with_78() {
    let output = shunt(&["check", &example("minimal.toml")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("minimal.toml: ok: "));

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bad.toml");
    let broken = std::fs::read_to_string(example("nat.toml")).unwrap();
    std::fs::write(&file, broken.replace("\"spin\"", "\"span\"").replace("\"nat\"", "\"gnat\"")).unwrap();
    for command in [&["check", file.to_str().unwrap()][..], &["check", "--shell", file.to_str().unwrap()]] {
        let output = shunt(command);
        let problems = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78));
        assert!(output.stdout.is_empty());
        assert!(problems.lines().all(|line| line.contains("bad.toml:")), "{problems}");
        assert!(problems.lines().count() >= 2, "{problems}");
    }
}

#[test]
fn a_usage_error_is_no_status() {
    assert_eq!(shunt(&["--instance", "../etc", "status"]).status.code(), Some(64));
    assert_eq!(shunt(&["statsu"]).status.code(), Some(64));
    assert_eq!(shunt(&["status", "--help"]).status.code(), Some(0));
}

#[test]
fn the_doctor_speaks_json() {
    let output = shunt(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let fails = report["findings"].as_array().unwrap().iter().any(|finding| finding["level"] == "fail");
    assert_eq!(output.status.code(), Some(i32::from(fails)));
}

#[test]
fn a_wrong_word_of_the_command_line_is_told_with_what_to_write() {
    for (arguments, said) in [
        (
            &["status", "--watch", "0.2"][..],
            "'0.2' for '--watch <SECONDS>': write a whole number of seconds, 1 or more",
        ),
        (&["status", "--watch", "0"], "write a whole number of seconds"),
        (&["drain", "--host", "198.18.1"], "'198.18.1' for '--host <ADDRESS>': write the whole address"),
        (&["drain"], "<BACKEND|--host <ADDRESS>>"),
    ] {
        let output = shunt(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(text(&output.stderr).contains(said), "{}", text(&output.stderr));
    }
}
