//! `[feedback]`, `[[agent]]`, and their relations to the services' algorithms.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::address;
use super::service::Draft;
use crate::feedback::{Agent, Algorithm, Feedback};
use crate::report::{Field, Place, Report, quoted};
use crate::section::Section;

/// An agent, as far as it could be read.
struct AgentDraft {
    name: Option<Field<String>>,
    key_file: Option<PathBuf>,
    backends: Vec<Field<String>>,
}

/// Reads `[feedback]` and every `[[agent]]`, and checks them against the services.
pub(super) fn read(root: &mut Section<'_>, report: &Report, services: &[Draft]) -> Feedback {
    let section = root.section("feedback");
    let place = section.place.clone();
    let feedback = read_numbers(section);
    let sections = root.sections("agent");
    if let Some(first) = sections.first().filter(|_| feedback.listen.is_none()) {
        let sentence = "has nowhere to send its reports; write [feedback] with listen = \"198.18.1.1:7946\"";
        report.refuse(&first.place, sentence);
    }
    let drafts: Vec<_> = sections.into_iter().map(read_agent).collect();
    if feedback.listen.is_some() && drafts.is_empty() {
        let field = format!("{}.listen", place.field);
        report.refuse(&Place { field, ..place }, "waits for reports that nobody may send; write an [[agent]] table");
    }
    check_agents(report, &drafts, services);
    check_even(report, &drafts, services);
    let finish = |draft: AgentDraft| {
        let backends = draft.backends.into_iter().map(|backend| backend.value).collect();
        Some(Agent { name: draft.name?.value, key_file: draft.key_file?, backends })
    };
    Feedback { agents: drafts.into_iter().filter_map(finish).collect(), ..feedback }
}

fn read_numbers(mut section: Section<'_>) -> Feedback {
    let default = Feedback::default();
    let listen = read_listen(&mut section);
    let feedback = Feedback {
        listen,
        silence_ms: section.number_or("silence_ms", 100..=3_600_000, default.silence_ms),
        smoothing_ms: section.number_or("smoothing_ms", 0..=60_000, default.smoothing_ms),
        slew_permille_per_s: section.number_or("slew_permille_per_s", 1..=10_000, default.slew_permille_per_s),
        agents: Vec::new(),
    };
    section.finish();
    feedback
}

/// An address of this machine, all of them (`0.0.0.0`) included.
fn read_listen(section: &mut Section<'_>) -> Option<SocketAddr> {
    let Field { value: text, .. } = section.text("listen")?;
    let listen = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    if listen.is_none() {
        let sentence = "is not an address and port of this machine; write for example \"198.18.1.1:7946\"";
        section.refuse("listen", format!("{} {sentence}", quoted(text)));
    }
    listen
}

fn read_agent(mut section: Section<'_>) -> AgentDraft {
    let name = address::read_name(&mut section, "server-1");
    section.require("key_file", "key_file = \"/etc/shunt/server-1.key\"");
    let key_file = section.text("key_file").map(|path| PathBuf::from(path.value));
    if let Some(path) = key_file.as_ref().filter(|path| !path.is_absolute()) {
        let text = quoted(&path.display().to_string());
        section.refuse("key_file", format!("{text} doesn't begin with '/'; write the whole path"));
    }
    section.require("backends", "backends = [\"b1\"]");
    let backends = section.texts("backends", "[\"b1\"]");
    if backends.is_empty() && section.has("backends") {
        section.refuse("backends", "is empty; name the back-ends that it reports about");
    }
    let backends = backends.into_iter().map(|Field { value, place }| Field { value: value.to_owned(), place });
    let backends = backends.collect();
    section.finish();
    AgentDraft { name, key_file, backends }
}

/// Checks that agent names are unique and each back-end has at most one agent: two would report conflicting loads.
fn check_agents(report: &Report, agents: &[AgentDraft], services: &[Draft]) {
    let known =
        |name: &str| services.iter().flat_map(|service| &service.backends).any(|backend| backend.is_named(name));
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut owners: HashMap<&str, usize> = HashMap::new();
    for agent in agents {
        if let Some(Field { value, place }) = &agent.name
            && let Some(line) = names.insert(value, place.line)
        {
            report.refuse(place, format!("{value:?} is another agent's name, in line {line}; change one of both"));
        }
        for Field { value, place } in &agent.backends {
            if !known(value) {
                report.refuse(place, format!("{} is no back-end of any service; write the name of one", quoted(value)));
            } else if let Some(line) = owners.insert(value, place.line) {
                report.refuse(place, format!("{value:?} is reported about already, in line {line}; name it once"));
            }
        }
    }
}

/// Without an agent, `even` would silently act as `static`.
fn check_even(report: &Report, agents: &[AgentDraft], services: &[Draft]) {
    let reported = |name: &str| agents.iter().flat_map(|agent| &agent.backends).any(|backend| backend.value == name);
    for service in services {
        let Some(Field { value: Algorithm::Even, place }) = &service.algorithm else { continue };
        let names = service.backends.iter().filter_map(|backend| backend.name.as_ref());
        if service.agent_check.is_none() && !names.into_iter().any(|name| reported(&name.value)) {
            let sentence = "\"even\" does nothing where no agent reports about a back-end of the service";
            report.refuse(place, format!("{sentence}; write an [[agent]] table, or algorithm = \"static\""));
        }
    }
}
