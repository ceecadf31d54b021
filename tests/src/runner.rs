//! Runs the laboratory's tests one after the other, and always says what was skipped. Takes the filters of `cargo test
//! -- WORD...`: a test runs if its name contains one of them.

use anyhow::Result;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::time::Instant;

/// What Shunt logged in the test that runs; told if the test fails.
static LOG: Mutex<String> = Mutex::new(String::new());
/// Its last lines that are told.
const LINES_TOLD: usize = 80;

/// One test.
pub struct Test {
    /// Its name.
    pub name: String,
    /// What it does.
    pub run: Box<dyn Fn() -> Result<()>>,
}

impl Test {
    /// A test called `name`.
    pub fn new(name: impl Into<String>, run: impl Fn() -> Result<()> + 'static) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// Keeps a laboratory's log for a test that fails: by then the laboratory is gone.
pub fn keep_log(text: &str) {
    *LOG.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = text.to_owned();
}

/// Runs those that the command line names, all by default. The last line counts.
pub fn run(tests: &[Test]) -> ExitCode {
    // Options of the usual test runner mean nothing here.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let chosen = tests.iter().filter(|test| filters.is_empty() || filters.iter().any(|word| test.name.contains(*word)));
    if arguments.iter().any(|argument| argument == "--list") {
        chosen.for_each(|test| println!("{}: test", test.name));
        return ExitCode::SUCCESS;
    }
    let obstacle = obstacle();
    let (mut passed, mut failed, mut skipped) = (0, Vec::new(), 0);
    for test in chosen {
        if let Some(why) = &obstacle {
            println!("SKIPPED: {}: {why}", test.name);
            skipped += 1;
        } else if run_one(test) {
            passed += 1;
        } else {
            failed.push(test.name.as_str());
        }
    }
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
    }
    println!("lab: {passed} passed, {} failed, {skipped} skipped", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_one(test: &Test) -> bool {
    println!("test {} ...", test.name);
    keep_log("");
    let start = Instant::now();
    // A panic must not take the tests after it along; the laboratory is removed by its guard while it unwinds.
    let result = catch_unwind(AssertUnwindSafe(|| (test.run)()));
    let seconds = start.elapsed().as_secs_f32();
    match &result {
        Ok(Ok(())) => println!("test {} ... ok ({seconds:.1} s)", test.name),
        Ok(Err(error)) => println!("test {} ... FAILED ({seconds:.1} s)\n  {error:#}", test.name),
        Err(_) => println!("test {} ... PANICKED ({seconds:.1} s)", test.name),
    }
    let passed = matches!(result, Ok(Ok(())));
    if !passed || std::env::var_os("SHUNT_SHOW_LOGS").is_some() {
        tell_log();
    }
    passed
}

fn tell_log() {
    let log = LOG.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let lines: Vec<&str> = log.lines().collect();
    for line in &lines[lines.len().saturating_sub(LINES_TOLD)..] {
        println!("  | {line}");
    }
}

/// What on this machine is in the way of a laboratory.
fn obstacle() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    let name = format!("probe-{}", std::process::id());
    let ip = |order: &str| Command::new("ip").args(["netns", order, &name]).output();
    match ip("add") {
        Err(error) => Some(format!("ip (iproute2) can't be run: {error}")),
        Ok(output) if !output.status.success() => {
            Some(format!("no network namespaces here: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Ok(_) => ip("delete").err().map(|error| error.to_string()),
    }
}
