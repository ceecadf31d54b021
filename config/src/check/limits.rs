//! `[limits]` and `[timeouts]`: sizes of the shared memory, times of connections.

use crate::queues::FRAMES;
use crate::section::Section;
use crate::types::{Limits, Timeouts};
use shunt_protocol::limits::{RING_SLOTS, STORE_PACKETS};

/// Slots and entries store back-end and service ids in 16 bits.
const LAST_ID: u32 = 65_535;

/// 30 days.
pub(super) const LONGEST_S: u32 = 30 * 86_400;

/// Reads `[limits]`.
pub(super) fn read(mut section: Section<'_>) -> Limits {
    let default = Limits::default();
    let limits = Limits {
        connections: section.number_or("connections", 1..=1 << 28, default.connections),
        services: section.number_or("services", 1..=LAST_ID, default.services),
        backends: section.number_or("backends", 1..=LAST_ID, default.backends),
        slots: section.number_or("slots", 1..=1 << 28, default.slots),
        neighbours: section.number_or("neighbours", 1..=1 << 20, default.neighbours),
        routes: section.number_or("routes", 1..=1 << 24, default.routes),
        frames: section.number_or("frames", FRAMES, default.frames),
        ring: section.number_or("ring", RING_SLOTS, default.ring),
        store: section.number_or("store", STORE_PACKETS, default.store),
    };
    check_power_of_two(&section, "frames", limits.frames);
    check_power_of_two(&section, "ring", limits.ring);
    check_power_of_two(&section, "store", limits.store);
    section.finish();
    limits
}

fn check_power_of_two(section: &Section<'_>, key: &str, number: u32) {
    if !number.is_power_of_two() {
        let above = number.next_power_of_two();
        section.refuse(key, format!("{number} is not a power of two; write {} or {above}", above / 2));
    }
}

/// Reads `[timeouts]` or a service's own; missing keys are taken from `base`.
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
