//! `shunt doctor [FILE]`: finds what prevents or slows Shunt on this machine, with remedies.
//!
//! It only reads /proc, /sys, ioctls and netlink, and changes nothing. Each file here checks one subject and returns
//! findings; evaluation is separate from reading, so that it is tested with arbitrary machines.

mod backends;
mod configured;
mod cpus;
mod files;
mod finding;
mod interfaces;
mod kernel;
mod link;
mod memory;
mod network;
mod privileges;
mod queues;
mod system;

use super::output::{Report, json, write};
use files::Files;
use finding::{Finding, Level};
use serde::Serialize;
use shunt_config::Config;
use std::path::Path;
use std::process::ExitCode;

#[derive(Serialize)]
struct DoctorReport {
    ok: usize,
    warn: usize,
    fail: usize,
    findings: Vec<Finding>,
}

/// Runs all checks and prints the findings; fails if any check failed.
pub fn run(file: Option<&Path>, as_json: bool) -> anyhow::Result<ExitCode> {
    let config = file.map(Config::load).transpose()?;
    let report = DoctorReport::new(examine(&Files::of_machine(), config.as_ref()));
    write(&if as_json { json(&report)? } else { report.text() })?;
    Ok(if report.fail == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn examine(files: &Files, config: Option<&Config>) -> Vec<Finding> {
    let mut findings = kernel::examine(files);
    findings.extend(privileges::examine(files));
    findings.extend(memory::examine(files, config));
    findings.extend(cpus::examine(files, config));
    if let Some(config) = config {
        findings.extend(config.interfaces.iter().flat_map(|interface| interfaces::examine(files, config, interface)));
        findings.extend(configured::examine(config));
        findings.extend(backends::examine(config));
        findings.extend(queues::examine(files, config));
        findings.extend(network::examine(files, config));
    }
    findings
}

impl DoctorReport {
    fn new(findings: Vec<Finding>) -> Self {
        let count = |level| findings.iter().filter(|finding| finding.level == level).count();
        Self { ok: count(Level::Ok), warn: count(Level::Warn), fail: count(Level::Fail), findings }
    }
}

impl Report for DoctorReport {
    fn text(&self) -> String {
        let lines: String = self.findings.iter().map(Finding::to_string).collect();
        format!("{lines}{} ok, {} to look at, {} in the way\n", self.ok, self.warn, self.fail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_anything_is_examined_without_panic_and_told_so() {
        let root = tempfile::tempdir().unwrap();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/nat.toml");
        let config = Config::load(&example).unwrap();
        let report = DoctorReport::new(examine(&Files::below(root.path()), Some(&config)));
        assert!(report.fail > 0);
        assert!(report.findings.iter().filter(|f| f.level != Level::Ok).all(|f| f.mend.is_some()), "{}", report.text());
    }
}
