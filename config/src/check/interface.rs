//! `[[interface]]`: which network interfaces are polled, how, and by whom.

use std::collections::{BTreeMap, HashMap};

use crate::report::quoted;
use crate::section::Section;
use crate::types::{Interface, PortKind, Side, Switchers, XdpMode};
use shunt_protocol::idle::Idle;

/// The kernel's IFNAMSIZ without the final zero.
const NAME_LENGTH: usize = 15;

/// Limit of the interface number in a connection's last hop; the highest number is the pseudo-interface's.
const INTERFACES_MAX: usize = 1023;

/// Upper bound on the queues of any device.
const LAST_QUEUE: u32 = 4095;

/// Reads all interfaces; `switchers` is `None` if that table is invalid.
pub(super) fn read_all(root: &mut Section<'_>, switchers: Option<&Switchers>) -> Vec<Interface> {
    let mut lines: HashMap<&str, usize> = HashMap::new();
    let mut interfaces = Vec::new();
    for mut section in root.sections("interface") {
        let line = section.place.line;
        let name = read_name(&mut section);
        if let Some(first) = name.and_then(|name| lines.insert(name, line)) {
            section.refuse("name", format!("is in line {first} already; remove one of both"));
        }
        interfaces.push(read(&mut section, name.unwrap_or_default(), switchers));
        section.finish();
    }
    if interfaces.len() > INTERFACES_MAX {
        root.refuse("interface", format!("there are {}; write {INTERFACES_MAX} at most", interfaces.len()));
    }
    check_sides(root, &interfaces);
    interfaces
}

fn read_name<'t>(section: &mut Section<'t>) -> Option<&'t str> {
    section.require("name", "name = \"eth0\"");
    let name = section.text("name")?.value;
    if !is_device_name(name) {
        let sentence = format!("{} is not an interface name; `ip link` shows those there are", quoted(name));
        section.refuse("name", sentence);
        return None;
    }
    Some(name)
}

/// Whether the kernel accepts it as a device name.
pub(super) fn is_device_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_graphic() && !"/:%".contains(c);
    (1..=NAME_LENGTH).contains(&name.len()) && name.chars().all(allowed) && name != "." && name != ".."
}

/// `name` is empty if it was invalid.
fn read(section: &mut Section<'_>, name: &str, switchers: Option<&Switchers>) -> Interface {
    let sides = [("client", Side::Client), ("backend", Side::Backend), ("both", Side::Both)];
    let ports = [("auto", PortKind::Auto), ("af_xdp", PortKind::AfXdp), ("af_packet", PortKind::AfPacket)];
    let modes = [
        ("auto", XdpMode::Auto),
        ("zero-copy", XdpMode::ZeroCopy),
        ("native-copy", XdpMode::NativeCopy),
        ("generic-copy", XdpMode::GenericCopy),
    ];
    let side = section.word("side", &sides).map_or(Side::Both, |side| side.value);
    let port = section.word("port", &ports).map_or(PortKind::Auto, |port| port.value);
    let mode = section.word("mode", &modes).map_or(XdpMode::Auto, |mode| mode.value);
    if port == PortKind::AfPacket && mode != XdpMode::Auto {
        section.refuse("mode", "is for af_xdp, but port is \"af_packet\"; remove one of both");
    }
    let busy_poll = read_busy_poll(section, port, switchers);
    let queues = read_queues(section.section("queues"), switchers);
    Interface { name: name.to_owned(), side, port, mode, busy_poll, queues }
}

/// The default of `busy_poll`. A switcher that shares its CPU is not always running to fetch packets, so it relies on
/// interrupts; for one that waits, kernel threads fetch them.
fn read_busy_poll(section: &mut Section<'_>, port: PortKind, switchers: Option<&Switchers>) -> bool {
    let spins = switchers.is_some_and(|switchers| switchers.idle == Idle::Spin);
    let Some(wanted) = section.flag("busy_poll") else { return spins && port != PortKind::AfPacket };
    if wanted && switchers.is_some_and(|switchers| switchers.idle == Idle::Wait) {
        section.refuse("busy_poll", "is for switchers that poll, but switchers.idle is \"wait\"; remove one of both");
    }
    if wanted && port == PortKind::AfPacket {
        section.refuse("busy_poll", "is for af_xdp, but port is \"af_packet\"; remove one of both");
    }
    wanted
}

fn read_queues(section: Section<'_>, switchers: Option<&Switchers>) -> BTreeMap<u32, u32> {
    let mut queues = BTreeMap::new();
    for (key, number) in section.entries(0..=u32::MAX) {
        let queue = key.parse().ok().filter(|queue: &u32| *queue <= LAST_QUEUE && queue.to_string() == key);
        let Some(queue) = queue else {
            let sentence = format!("is not a queue number; write one from \"0\" to \"{LAST_QUEUE}\"");
            section.refuse(key, sentence);
            continue;
        };
        let count = switchers.map_or(usize::MAX, |switchers| switchers.cpus.count());
        if number.value as usize >= count {
            let sentence = format!("switcher {} doesn't exist; write one from 0 to {}", number.value, count - 1);
            section.refuse(key, sentence);
        }
        queues.insert(queue, number.value);
    }
    queues
}

/// Packets flow from clients to back-ends: each must be reachable through some interface.
fn check_sides(root: &Section<'_>, interfaces: &[Interface]) {
    let all_are = |side| !interfaces.is_empty() && interfaces.iter().all(|interface| interface.side == side);
    if all_are(Side::Client) {
        root.refuse("interface", "none leads to the back-ends; give one side = \"backend\" or \"both\"");
    }
    if all_are(Side::Backend) {
        root.refuse("interface", "none leads to the clients; give one side = \"client\" or \"both\"");
    }
}
