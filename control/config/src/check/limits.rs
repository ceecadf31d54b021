//! `[limits]` and `[timeouts]`: sizes of the shared memory, times of connections.

use crate::section::Section;
use crate::types::{Limits, Timeouts};

/// Back-ends and services are numbered by 16 bits in the slots and entries.
const LAST_ID: u32 = 65_535;

/// 30 days.
const LONGEST_S: u32 = 30 * 86_400;

/// Reads `[limits]`; `interfaces` is how many there are.
pub(super) fn read(mut section: Section<'_>, interfaces: usize) -> Limits {
    let default = Limits::default();
    let limits = Limits {
        connections: section.number_or("connections", 1..=1 << 28, default.connections),
        services: section.number_or("services", 1..=LAST_ID, default.services),
        backends: section.number_or("backends", 1..=LAST_ID, default.backends),
        slots: section.number_or("slots", 1..=1 << 28, default.slots),
        neighbours: section.number_or("neighbours", 1..=1 << 20, default.neighbours),
        routes: section.number_or("routes", 1..=1 << 24, default.routes),
        frames: section.number_or("frames", 64..=1 << 20, default.frames),
        ring: section.number_or("ring", 16..=1 << 16, default.ring),
        store: section.number_or("store", 16..=1 << 16, default.store),
    };
    check_power_of_two(&section, "frames", limits.frames);
    check_power_of_two(&section, "ring", limits.ring);
    check_power_of_two(&section, "store", limits.store);
    check_frames_fill_rings(&section, &limits, interfaces);
    section.finish();
    limits
}

fn check_power_of_two(section: &Section<'_>, key: &str, number: u32) {
    if !number.is_power_of_two() {
        let above = number.next_power_of_two();
        section.refuse(key, format!("{number} is not a power of two; write {} or {above}", above / 2));
    }
}

/// A switcher needs a frame for each descriptor of a fill and a transmit ring on every interface, or receiving stops
/// while transmit rings are full.
fn check_frames_fill_rings(section: &Section<'_>, limits: &Limits, interfaces: usize) {
    let wanted = 2 * limits.ring as usize * interfaces;
    if (limits.frames as usize) < wanted {
        let Limits { frames, ring, .. } = limits;
        let sentence = format!("{frames} are too few for 2 rings of {ring} on each of {interfaces} interfaces");
        let enough = wanted.next_power_of_two();
        section.refuse("frames", format!("{sentence}; write {enough}, or a smaller limits.ring"));
    }
}

/// Reads `[timeouts]` or a service's own; what it doesn't say is as in `base`.
pub(super) fn read_timeouts(mut section: Section<'_>, base: Timeouts) -> Timeouts {
    let mut read = |key, base| section.number_or(key, 1..=LONGEST_S, base);
    let timeouts = Timeouts {
        tcp_opening_s: read("tcp_opening", base.tcp_opening_s),
        tcp_established_s: read("tcp_established", base.tcp_established_s),
        tcp_closing_s: read("tcp_closing", base.tcp_closing_s),
        tcp_closed_s: read("tcp_closed", base.tcp_closed_s),
        udp_s: read("udp", base.udp_s),
    };
    section.finish();
    timeouts
}
