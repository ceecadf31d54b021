//! `[switchers]`: their number, CPUs and idle mode.

use std::collections::HashSet;

use crate::cpus::Cpus;
use crate::section::Section;
use crate::types::Switchers;
use shunt_protocol::idle::Idle;

/// Maximum number of switchers per instance.
const SWITCHERS: u32 = 64;

/// Highest CPU number in the kernel's usual CPU mask (`cpu_set_t`).
const LAST_CPU: u32 = 1023;

/// The switchers, if their number is valid.
pub(super) fn read(mut section: Section<'_>) -> Option<Switchers> {
    let listed = section.numbers("cpus", 0..=LAST_CPU);
    let count = section.number("count", 1..=SWITCHERS);
    let idle = section.word("idle", &[("spin", Idle::Spin), ("yield", Idle::Yield), ("wait", Idle::Wait)]);
    if section.has("cpus") && section.has("count") {
        section.refuse("count", "stands beside cpus; keep one of both");
    } else if section.is_present() {
        let either = section.has("cpus") || section.has("count");
        if !either {
            section.refuse("cpus", "is missing; write for example cpus = [2, 3], or count = 2 to have them chosen");
        }
    }
    if let Some(cpus) = &listed {
        check_listed(&section, &cpus.value);
    }
    section.finish();
    let cpus = match (listed, count) {
        (Some(cpus), _) if cpus.value.is_empty() => return None,
        (Some(cpus), _) => Cpus::Listed(cpus.value),
        (None, count) => Cpus::Automatic { count: count?.value },
    };
    Some(Switchers { cpus, idle: idle.map_or(Idle::Spin, |idle| idle.value) })
}

fn check_listed(section: &Section<'_>, cpus: &[u32]) {
    if cpus.is_empty() {
        section.refuse("cpus", "names no CPU; write for example cpus = [2, 3]");
    }
    if cpus.len() > SWITCHERS as usize {
        let sentence = format!("names {} CPUs; write {SWITCHERS} at most", cpus.len());
        section.refuse("cpus", sentence);
    }
    let mut seen = HashSet::new();
    for cpu in cpus.iter().filter(|&&cpu| !seen.insert(cpu)) {
        section.refuse("cpus", format!("names CPU {cpu} twice; each switcher needs one of its own"));
    }
}
