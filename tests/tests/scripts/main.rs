//! The scripts and programs as an operator meets them: their help, what they refuse, what they install, and what they leave behind.

mod adoption;
mod clean_up;
mod fixture;
mod help;
mod log;
mod programs;
mod rust;
mod stop;
mod supervision;

use shunt_tests::operator::root;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
    let draft = path.with_extension("draft");
    std::fs::write(&draft, text).expect("a program is written");
    install(&draft, path);
    std::fs::remove_file(&draft).expect("the draft is removed");
}

/// Copies a program by another process. A child that another test starts meanwhile would inherit this one's descriptor,
/// and what anybody has open for writing can't be executed (ETXTBSY).
fn install(from: &Path, to: &Path) {
    let status = Command::new("install").args(["-m", "755"]).args([from, to]).status().expect("install, of coreutils");
    assert!(status.success(), "install {} {}: {status}", from.display(), to.display());
}
