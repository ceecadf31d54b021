//! `--help` of every script prints its text and does nothing else; a wrong option is refused with status 2.

use crate::{said, scripts, write_program};
use std::path::Path;
use std::process::Command;

/// What a script may use to find itself and to print.
const HARMLESS: &[&str] = &["bash", "awk", "cat", "dirname", "env", "readlink", "sed", "seq", "python3"];

/// Runs `script` where it finds the harmless programs only. Whatever of Shunt's it starts leaves a mark.
fn run(script: &Path, argument: &str) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let programs = folder.path().join("programs");
    std::fs::create_dir(&programs).expect("a folder");
    for name in HARMLESS {
        let found = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(name));
        if let Some(program) = found.iter().find(|program| program.exists()) {
            std::os::unix::fs::symlink(program, programs.join(name)).expect("a link");
        }
    }
    let mark = folder.path().join("started");
    write_program(
        &programs.join("shunt"),
        &format!("#!/bin/sh\necho shunt \"$@\" >>'{0}'\necho touch '{0}'\n", mark.display()),
    );
    let mut command = Command::new(script);
    command.arg(argument).current_dir(&folder).env_clear().env("PATH", &programs).env("SHUNT_BIN", &programs);
    let result = said(&command.output().expect("a script"));
    assert!(!mark.exists(), "{} {argument} has run: {:?}", script.display(), std::fs::read_to_string(&mark));
    result
}

#[test]
fn every_script_prints_its_help_and_runs_nothing() {
    for script in scripts() {
        for argument in ["--help", "-h"] {
            let (status, text, errors) = run(&script, argument);
            assert_eq!((status, errors.as_str()), (Some(0), ""), "{} {argument}", script.display());
            assert!(text.lines().count() >= 3, "{} {argument} prints {text:?}", script.display());
        }
    }
}

#[test]
fn every_script_refuses_an_unknown_option_as_misuse() {
    for script in scripts() {
        let (status, text, errors) = run(&script, "--no-such-option");
        assert_eq!((status, text.as_str()), (Some(2), ""), "{}: {errors}", script.display());
        assert!(errors.contains("--no-such-option") || errors.contains("usage:"), "{}: {errors}", script.display());
    }
}

#[test]
fn the_laboratory_names_a_word_that_it_does_not_know() {
    let lab = shunt_tests::operator::root().join("deploy/lab");
    let (status, text, errors) = run(&lab, "foo");
    assert_eq!((status, text.as_str()), (Some(2), ""), "{errors}");
    assert!(errors.starts_with("lab: unknown command 'foo'; write up, down, status"), "{errors}");
}
