//! `[[service]]` and its `[[service.backend]]`: checks one service in isolation. `relations` checks services against each
//! other.

use std::net::SocketAddr;

use super::{address, health, limits, rules};
use crate::feedback::{AgentCheck, Algorithm, Rule};
use crate::report::{Field, Place, Report};
use crate::section::Section;
use crate::slots;
use crate::types::{Backend, Health, Mode, OnBackendDown, Protocol, Service, Target, Timeouts};

/// Default time limits for connections at a drained back-end: UDP flows can move without loss, TCP connections might be
/// reset.
const DRAIN_TIMEOUT_UDP_S: u32 = 30;
const DRAIN_TIMEOUT_TCP_S: u32 = 300;

/// A service, as far as it could be read.
pub(super) struct Draft {
    pub place: Place,
    pub name: Option<Field<String>>,
    pub address: Option<Field<SocketAddr>>,
    pub protocol: Option<Protocol>,
    pub target: Target,
    pub mode: Option<Mode>,
    pub slots: Field<u32>,
    pub timeouts: Timeouts,
    pub on_backend_down: OnBackendDown,
    pub drain_timeout_s: u32,
    pub health: Option<Health>,
    pub algorithm: Option<Field<Algorithm>>,
    pub rules: Vec<Rule>,
    pub agent_check: Option<AgentCheck>,
    pub backends: Vec<BackendDraft>,
}

/// A back-end, as far as it could be read.
pub(super) struct BackendDraft {
    pub name: Option<Field<String>>,
    pub address: Option<Field<SocketAddr>>,
    pub weight: u16,
    pub workers: Option<Field<u32>>,
    pub capabilities: Vec<String>,
}

impl Draft {
    /// The service, if it is complete.
    pub fn finish(self) -> Option<Service> {
        let backends = self.backends.into_iter().map(BackendDraft::finish);
        Some(Service {
            name: self.name?.value,
            address: self.address?.value,
            protocol: self.protocol?,
            target: self.target,
            mode: self.mode?,
            slots: self.slots.value,
            timeouts: self.timeouts,
            on_backend_down: self.on_backend_down,
            drain_timeout_s: self.drain_timeout_s,
            health: self.health,
            algorithm: self.algorithm.map_or(Algorithm::Static, |algorithm| algorithm.value),
            rules: self.rules,
            agent_check: self.agent_check,
            backends: backends.collect::<Option<Vec<_>>>()?,
        })
    }
}

impl BackendDraft {
    pub fn is_named(&self, name: &str) -> bool {
        self.name.as_ref().is_some_and(|own| own.value == name)
    }

    fn finish(self) -> Option<Backend> {
        let workers = self.workers.map(|workers| workers.value);
        Some(Backend { name: self.name?.value, address: self.address?.value, weight: self.weight, workers })
    }
}

pub(super) fn read(mut section: Section<'_>, report: &Report, base: Timeouts) -> Draft {
    let name = address::read_name(&mut section, "web");
    let address = address::read(&mut section, "198.18.0.100:80", "services");
    section.require("protocol", "protocol = \"tcp\"");
    let protocol = section.word("protocol", &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)]).map(|field| field.value);
    let target = read_target(&mut section);
    let mode = match target {
        Target::Backends => {
            section.require("mode", "mode = \"nat\"");
            section.word("mode", &Mode::WORDS).map(|field| field.value)
        }
        Target::Host => Some(Mode::Nat),
    };
    let timeouts = limits::read_timeouts(section.section("timeouts"), base);
    let (on_backend_down, drain_timeout_s) = read_drain(&mut section, protocol);
    let health = match target {
        Target::Backends => health::read(section.section("health"), protocol, mode),
        Target::Host => None,
    };
    let kept_port = match (mode, &address) {
        (Some(mode), Some(address)) if mode.keeps_destination() => Some((mode, address.value.port())),
        _ => None,
    };
    let sections = match target {
        Target::Backends => {
            section.require("backend", "a [[service.backend]] table with name and address");
            section.sections("backend")
        }
        Target::Host => Vec::new(),
    };
    let backends: Vec<_> = sections.into_iter().map(|section| read_backend(section, kept_port)).collect();
    if !backends.is_empty() && backends.iter().all(|backend| backend.weight == 0) {
        section.refuse("backend", rules::no_weight("the service would take no connection"));
    }
    let slots = match target {
        Target::Backends => read_slots(&mut section, &backends),
        Target::Host => Field { value: 0, place: section.place.clone() },
    };
    let algorithm = section.word("algorithm", &Algorithm::WORDS);
    let rules = rules::read_all(section.sections("rule"), report, &backends);
    let agent_check = rules::read_agent_check(section.section("agent_check"));
    let place = section.place.clone();
    section.finish();
    Draft {
        place,
        name,
        address,
        protocol,
        target,
        mode,
        slots,
        timeouts,
        on_backend_down,
        drain_timeout_s,
        health,
        algorithm,
        rules,
        agent_check,
        backends,
    }
}

/// Reads `target`; with `host`, keys that only apply to back-ends are refused.
fn read_target(section: &mut Section<'_>) -> Target {
    let words = [("backends", Target::Backends), ("host", Target::Host)];
    let target = section.word("target", &words).map_or(Target::Backends, |field| field.value);
    if target == Target::Host {
        const MEANINGLESS: [&str; 10] = [
            "mode",
            "slots",
            "health",
            "backend",
            "timeouts",
            "on_backend_down",
            "drain_timeout_s",
            "algorithm",
            "rule",
            "agent_check",
        ];
        for key in MEANINGLESS {
            if section.has(key) {
                section.refuse(key, "does nothing where target is \"host\"; remove it, or remove target");
            }
            section.ignore(key);
        }
    }
    target
}

/// Reads what happens to connections of a back-end that is down, and their time limit at a drained one.
fn read_drain(section: &mut Section<'_>, protocol: Option<Protocol>) -> (OnBackendDown, u32) {
    use OnBackendDown::{Keep, Move, Reset};
    let is_udp = protocol == Some(Protocol::Udp);
    let word = section.word("on_backend_down", &[("keep", Keep), ("move", Move), ("reset", Reset)]);
    let on_backend_down = word.map_or(if is_udp { Move } else { Keep }, |field| field.value);
    match (on_backend_down, protocol) {
        (Move, Some(Protocol::Tcp)) => section.refuse(
            "on_backend_down",
            "\"move\" is for UDP: another back-end knows nothing of a TCP connection; write \"reset\" or \"keep\"",
        ),
        (Reset, Some(Protocol::Udp)) => {
            section.refuse("on_backend_down", "\"reset\" is for TCP: UDP has no resets; write \"move\" or \"keep\"")
        }
        _ => {}
    }
    let default = if is_udp { DRAIN_TIMEOUT_UDP_S } else { DRAIN_TIMEOUT_TCP_S };
    (on_backend_down, section.number_or("drain_timeout_s", 0..=limits::LONGEST_S, default))
}

/// `kept_port` is the service's mode and port if the back-end must listen on the same port.
fn read_backend(mut section: Section<'_>, kept_port: Option<(Mode, u16)>) -> BackendDraft {
    let name = address::read_name(&mut section, "b1");
    let address = address::read(&mut section, "198.18.1.10:8080", "back-ends");
    let weight = section.number_or("weight", 0..=256, 1);
    let workers = section.number("workers", 1..=1_000_000);
    if let (Some((mode, port)), Some(Field { value, .. })) = (kept_port, &address)
        && value.port() != port
    {
        let (own, mode) = (value.port(), mode.word());
        let sentence = format!("has port {own}, its service {port}, and mode {mode} re-writes no ports");
        section.refuse("address", format!("{sentence}; let the back-end listen on {port}, or write mode = \"nat\""));
    }
    let capabilities = section.texts("capabilities", "[\"gpu\"]");
    let capabilities = capabilities.into_iter().map(|word| word.value.to_owned()).collect();
    section.finish();
    BackendDraft { name, address, weight: u16::try_from(weight).unwrap_or(u16::MAX), workers, capabilities }
}

/// The configured or default table size, at its own position or else the service's.
fn read_slots(section: &mut Section<'_>, backends: &[BackendDraft]) -> Field<u32> {
    let Some(said) = section.number("slots", 2..=1 << 24) else {
        let weights: Vec<u16> = backends.iter().map(|backend| backend.weight).collect();
        let place = Place { line: section.place.line, field: format!("{}.slots", section.place.field) };
        return Field { value: slots::choose_size(&weights), place };
    };
    if !slots::is_prime(said.value) {
        let above = slots::next_prime(said.value);
        section.refuse("slots", format!("{} is not a prime; write for example {above}", said.value));
    } else if (said.value as usize) < backends.len() {
        let sentence = format!("{} are fewer than the {} back-ends", said.value, backends.len());
        section.refuse("slots", format!("{sentence}; write a prime of at least 100 for each"));
    }
    said
}
