//! The scripts and programs as an operator meets them: their help, what they refuse, what they install, and what they leave behind.

mod clean_up;
mod help;
mod log;
mod programs;
mod rust;

use shunt_tests::operator::root;
use std::path::{Path, PathBuf};
use std::process::Output;

/// Status, standard output and standard error.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Every file of the project that is executed by an interpreter.
fn scripts() -> Vec<PathBuf> {
    let mut scripts = Vec::new();
    for folder in [".ci", "deploy", "tests"] {
        collect(&root().join(folder), &mut scripts);
    }
    assert!(scripts.len() > 8, "only {scripts:?}");
    scripts
}

fn collect(folder: &Path, scripts: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(folder).expect("a readable folder").map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            collect(&path, scripts);
        } else if std::fs::read(&path).expect("a readable file").starts_with(b"#!") {
            scripts.push(path);
        }
    }
}

/// A program that the test stands in for.
fn write_program(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a program is written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path, mode).expect("a program is made executable");
}
