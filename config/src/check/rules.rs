//! `[[service.rule]]`, which sends certain clients to the back-ends with what they need; and `[service.agent_check]`.

use super::service::BackendDraft;
use crate::feedback::{AgentCheck, Network, Rule};
use crate::report::{Field, Report, quoted};
use crate::section::Section;

/// Reads every rule of a service. `needs` resolves to the back-ends that have all the named capabilities.
pub(super) fn read_all(sections: Vec<Section<'_>>, report: &Report, backends: &[BackendDraft]) -> Vec<Rule> {
    sections.into_iter().map(|section| read(section, report, backends)).collect()
}

fn read(mut section: Section<'_>, report: &Report, backends: &[BackendDraft]) -> Rule {
    let everybody = !section.has("clients");
    let clients = section.texts("clients", "[\"198.18.0.0/16\"]");
    let clients = match everybody {
        true => vec![Network::ALL],
        false => clients.iter().filter_map(|text| read_network(report, text)).collect(),
    };
    let all = backends;
    let backends = read_chosen(&mut section, report, all);
    let chosen = all.iter().filter(|draft| backends.iter().any(|name| draft.is_named(name)));
    if !backends.is_empty() && chosen.clone().all(|draft| draft.weight == 0) {
        let key = if section.has("needs") { "needs" } else { "backends" };
        section.refuse(key, no_weight("the rule's clients would be refused"));
    }
    section.finish();
    Rule { clients, backends }
}

/// The message if all weights are 0.
pub(super) fn no_weight(what: &str) -> String {
    let sentence = format!("every back-end has weight 0, so {what}");
    format!("{sentence}; give one a weight from 1 to 256, or take back-ends out by `shunt drain`")
}

/// The back-ends, by name or by capability.
fn read_chosen(section: &mut Section<'_>, report: &Report, backends: &[BackendDraft]) -> Vec<String> {
    let named = section.texts("backends", "[\"b1\"]");
    let needs = section.texts("needs", "[\"gpu\"]");
    match (section.has("backends"), section.has("needs")) {
        (true, false) => {
            if named.is_empty() {
                section.refuse("backends", "is empty; name the back-ends that these clients go to");
            }
            named.iter().filter_map(|name| find(report, name, backends)).collect()
        }
        (false, true) => having(section, &needs, backends),
        (true, true) => {
            section.refuse("needs", "stands beside backends, which says the same; write one of both");
            Vec::new()
        }
        (false, false) => {
            section.refuse("backends", "is missing; write for example backends = [\"b1\"], or needs = [\"gpu\"]");
            Vec::new()
        }
    }
}

fn read_network(report: &Report, text: &Field<&str>) -> Option<Network> {
    let network = text.value.parse();
    network.map_err(|error| report.refuse(&text.place, format!("{} {error}", quoted(text.value)))).ok()
}

fn find(report: &Report, name: &Field<&str>, backends: &[BackendDraft]) -> Option<String> {
    if !backends.iter().any(|backend| backend.is_named(name.value)) {
        let sentence = format!("{} is no back-end of this service", quoted(name.value));
        report.refuse(&name.place, format!("{sentence}; write the name of one"));
        return None;
    }
    Some(name.value.to_owned())
}

fn having(section: &Section<'_>, needs: &[Field<&str>], backends: &[BackendDraft]) -> Vec<String> {
    let has = |backend: &BackendDraft, need: &str| backend.capabilities.iter().any(|capability| capability == need);
    let has_all = |backend: &&BackendDraft| needs.iter().all(|need| has(backend, need.value));
    let found: Vec<String> =
        backends.iter().filter(has_all).filter_map(|backend| Some(backend.name.as_ref()?.value.clone())).collect();
    if needs.is_empty() {
        section.refuse("needs", "is empty; write what these clients need, for example [\"gpu\"]");
    } else if found.is_empty() {
        let words: Vec<&str> = needs.iter().map(|need| need.value).collect();
        let sentence = format!("no back-end of this service has {}", quoted(&words.join(", ")));
        section.refuse("needs", format!("{sentence}; write it into a back-end's capabilities"));
    }
    found
}

/// Reads `[service.agent_check]`, if there is one.
pub(super) fn read_agent_check(mut section: Section<'_>) -> Option<AgentCheck> {
    if !section.is_present() {
        return None;
    }
    section.require("port", "port = 9777");
    let port = section.number("port", 1..=65_535).and_then(|port| u16::try_from(port.value).ok());
    let interval_ms = section.number_or("interval_ms", 10..=3_600_000, 500);
    section.finish();
    Some(AgentCheck { port: port?, interval_ms })
}
