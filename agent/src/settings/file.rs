//! The agent's TOML file: top level and back-ends.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shunt_config::document::{Field, Place, Report, Section, quoted};
use toml::de::DeTable;

use super::{Backend, Control, Settings, pages};
use shunt_report::{AgentKey, ConfigName, MOST_LOADS, PERIOD_MS};

const PERIOD_DEFAULT_MS: u32 = 50;
/// Default: half of the last reported value.
const SHARP_DEFAULT_PERMILLE: u32 = 500;

/// The settings of a document, valid only if `report` stays empty.
pub(super) fn read(report: &Report, document: &DeTable<'_>) -> Option<Settings> {
    let mut root = Section::root(report, document);
    let name = read_name(&mut root, "server-1");
    let control = read_control(&mut root);
    let periods_ms = u32::from(*PERIOD_MS.start())..=u32::from(*PERIOD_MS.end());
    let period_ms = root.number_or("period_ms", periods_ms.clone(), PERIOD_DEFAULT_MS);
    let look_ms = root.number_or("look_ms", periods_ms, period_ms.min(PERIOD_DEFAULT_MS));
    if look_ms > period_ms {
        let sentence = format!("{look_ms} is more than period_ms, {period_ms}; lower it, or leave it out");
        root.refuse("look_ms", sentence);
    }
    let sharp_permille = root.number_or("sharp_permille", 50..=10_000, SHARP_DEFAULT_PERMILLE);
    let epoch_file = read_path(&mut root, "epoch_file");
    let statsd_socket = read_path(&mut root, "statsd_socket");
    root.require("backend", "a [[backend]] table with name = \"b1\" and port = 8080");
    let drafts: Vec<Draft> = root.sections("backend").into_iter().map(read_backend).collect();
    check_backends(report, &root, &drafts, statsd_socket.is_some());
    let says_none = !root.has("control") && !root.has("key_file");
    if says_none && drafts.iter().all(|draft| draft.agent_check.is_none()) {
        root.refuse("control", "is missing, and no back-end has agent_check, so the load would not be reported; write for example control = \"198.18.1.1:7946\"");
    }
    root.finish();
    let backends = drafts.into_iter().map(|draft| draft.backend).collect::<Option<Vec<_>>>()?;
    Some(Settings {
        name: name?.value,
        control,
        period: Duration::from_millis(period_ms.into()),
        look_interval: Duration::from_millis(look_ms.into()),
        sharp_permille: u16::try_from(sharp_permille).ok()?,
        epoch_file,
        statsd_socket,
        backends,
    })
}

fn read_name(section: &mut Section<'_>, example: &str) -> Option<Field<ConfigName>> {
    section.require("name", &format!("name = {example:?}"));
    let Field { value: text, place } = section.text("name")?;
    match text.parse() {
        Ok(value) => Some(Field { value, place }),
        Err(error) => {
            section.refuse("name", format!("{} {error}", quoted(text)));
            None
        }
    }
}

/// Address and key: both or neither.
fn read_control(root: &mut Section<'_>) -> Option<Control> {
    let address = pages::read_address(root, "control", "198.18.1.1:7946");
    let file = read_path(root, "key_file");
    match (root.has("control"), root.has("key_file")) {
        (true, false) => root.require("key_file", "key_file = \"/etc/shunt/agent.key\""),
        (false, true) => root.refuse("key_file", "does nothing without control; remove it, or write control"),
        _ => {}
    }
    let key = AgentKey::load(&file?).map_err(|error| root.refuse("key_file", error.to_string())).ok()?;
    Some(Control { address: address?.value, key })
}

fn read_path(section: &mut Section<'_>, key: &'static str) -> Option<PathBuf> {
    let text = section.text(key)?.value;
    if !text.starts_with('/') || text.contains('\0') {
        section.refuse(key, format!("{} is not an absolute path; write one that starts with '/'", quoted(text)));
        return None;
    }
    Some(Path::new(text).to_owned())
}

/// A parsed back-end with the positions of values that must be unique.
struct Draft {
    place: Place,
    name: Option<Field<ConfigName>>,
    port: Option<Field<u32>>,
    is_tcp: bool,
    agent_check: Option<Field<SocketAddr>>,
    pushes: Option<Place>,
    /// Absent if name or port is missing.
    backend: Option<Backend>,
}

fn read_backend(mut section: Section<'_>) -> Draft {
    let name = read_name(&mut section, "b1");
    section.require("port", "port = 8080");
    let port = section.number("port", 1..=65_535);
    let is_tcp = section.word("protocol", &[("tcp", true), ("udp", false)]).is_none_or(|word| word.value);
    let listeners = [("here", false), ("elsewhere", true)];
    let is_elsewhere = section.word("listener", &listeners).is_some_and(|word| word.value);
    let capacity = section.number("capacity", 1..=1_000_000).map(|field| field.value);
    let workers = section.number("workers", 1..=1_000_000).map(|field| field.value);
    let cgroup = read_path(&mut section, "cgroup");
    let drain_file = read_path(&mut section, "drain_file");
    let agent_check = pages::read_address(&mut section, "agent_check", "0.0.0.0:7947");
    let nginx = pages::read_nginx(section.section("nginx"));
    let prometheus = pages::read_prometheus(section.section("prometheus"));
    let command = pages::read_command(section.section("command"));
    let pushed = section.section("statsd");
    let pushes = pushed.is_present().then(|| pushed.place.clone());
    let statsd = pages::read_statsd(pushed);
    let place = section.place.clone();
    section.finish();
    let number = port.as_ref().and_then(|port| u16::try_from(port.value).ok());
    let backend = name.as_ref().zip(number).map(|(name, port)| Backend {
        name: name.value.clone(),
        port,
        is_tcp,
        is_elsewhere,
        capacity,
        workers,
        cgroup,
        drain_file,
        agent_check: agent_check.as_ref().map(|field| field.value),
        nginx,
        prometheus,
        command,
        statsd,
    });
    Draft { place, name, port, is_tcp, agent_check, pushes, backend }
}

fn check_backends(report: &Report, root: &Section<'_>, drafts: &[Draft], has_statsd: bool) {
    if let Some(draft) = drafts.get(MOST_LOADS) {
        let sentence = format!("is one back-end more than a report has room for, {MOST_LOADS}");
        report.refuse(&draft.place, format!("{sentence}; run a second agent of another name for the others"));
    }
    let (mut names, mut ports, mut checks) = (HashMap::new(), HashMap::new(), HashMap::new());
    for draft in drafts {
        if let Some(Field { value, place }) = &draft.name {
            refuse_second(report, &mut names, value, place, &format!("\"{value}\" is another back-end's name"));
        }
        if let Some(Field { value, place }) = &draft.port {
            refuse_second(
                report,
                &mut ports,
                (value, draft.is_tcp),
                place,
                &format!("{value} is another back-end's port"),
            );
        }
        if let Some(Field { value, place }) = &draft.agent_check {
            refuse_second(report, &mut checks, value, place, &format!("\"{value}\" answers for another back-end"));
        }
        if let (Some(place), false) = (&draft.pushes, has_statsd) {
            report.refuse(place, "needs a socket to which applications push; write statsd_socket at the top");
        }
    }
    if has_statsd && drafts.iter().all(|draft| draft.pushes.is_none()) {
        root.refuse("statsd_socket", "does nothing without a [backend.statsd]; remove it, or write one");
    }
}

fn refuse_second<K: Eq + Hash>(report: &Report, lines: &mut HashMap<K, usize>, key: K, place: &Place, taken: &str) {
    if let Some(first) = lines.insert(key, place.line) {
        report.refuse(place, format!("{taken}, in line {first}; change one of both"));
    }
}
