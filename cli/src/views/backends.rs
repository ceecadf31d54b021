//! `shunt backends`.

use super::activity::{Counts, Use};
use super::endpoint;
use super::load::LoadRow;
use crate::admin::BackendDetails;
use crate::configuration::{Backend, Configuration, Service};
use crate::format::{bytes, or_dash};
use crate::memory::Memory;
use crate::output::Report;
use crate::table::Table;
use serde::Serialize;
use shunt_shmlayout::config_table::{BackendRecord, MemberRecord};
use shunt_shmlayout::record::Counter;
use shunt_shmlayout::regions::BackendCounters;
use std::collections::HashMap;

/// A backend's membership in one service.
#[derive(Debug, Serialize)]
pub struct MemberRow {
    /// The service's name.
    pub service: String,
    /// Configured weight.
    pub weight: u16,
    /// Weight in force before feedback: 0 while the backend is down or drained, or declines.
    pub effective_weight: u16,
    /// Factor that feedback applies to it in the slots.
    pub factor: f64,
    /// Reason for the factor, if the backend reports and control gives one.
    pub why: Option<String>,
    /// Share of the service's slots, and so of its new connections; null if its algorithm uses no slots.
    pub slots_percent: Option<f64>,
}

/// One backend.
#[derive(Debug, Serialize)]
pub struct BackendRow {
    /// Its id, the same from one configuration to the next.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// Address and port.
    pub address: String,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// `up`, `down`, `drained`, or `removed` while its last connections finish.
    pub state: &'static str,
    /// Reason for its health state, if control gives one.
    pub health: Option<String>,
    /// Its last report; null if there was none.
    pub load: Option<LoadRow>,
    /// The services that it belongs to.
    pub services: Vec<MemberRow>,
    /// Address of the next hop towards it.
    pub next_hop: Option<String>,
    /// Ethernet address of the next hop; null while it is unresolved, and then packets to it are dropped.
    pub next_hop_mac: Option<String>,
    /// The interface that leads to it.
    pub interface: Option<String>,
    /// Its entries in the connection table.
    #[serde(flatten)]
    pub counts: Counts,
    /// Connections recorded since the start.
    pub opened: u64,
    /// Packets sent to it.
    pub packets: u64,
    /// Bytes sent to it.
    pub bytes: u64,
}

/// All backends.
#[derive(Debug, Serialize)]
pub struct BackendsReport {
    /// By id.
    pub backends: Vec<BackendRow>,
}

impl BackendsReport {
    /// Reads the backends. `details` has control's details by name; `now_ms` is of CLOCK_MONOTONIC.
    pub fn read(
        memory: &Memory,
        configuration: &Configuration,
        details: &HashMap<String, BackendDetails>,
        now_ms: u64,
    ) -> Self {
        let usage = Use::of(&memory.connections);
        let row = |backend: &Backend| {
            let details = details.get(&backend.name).cloned().unwrap_or_default();
            let (counts, services) = (usage.of_backend(backend.id), members(configuration, backend, &details.feedback));
            BackendRow { counts, services, ..row(memory, backend, details, now_ms) }
        };
        Self { backends: configuration.backends.iter().map(row).collect() }
    }

    /// Whether any backend has reported.
    fn has_feedback(&self) -> bool {
        let why = |backend: &BackendRow| backend.services.iter().any(|service| service.why.is_some());
        self.backends.iter().any(|backend| backend.load.is_some() || why(backend))
    }
}

/// A row without services and connections.
fn row(memory: &Memory, backend: &Backend, details: BackendDetails, now_ms: u64) -> BackendRow {
    let sum = |counter: fn(&BackendCounters) -> &Counter| -> u64 {
        let counters = memory.switchers.iter().filter_map(|region| region.backends.get(usize::from(backend.id.0)));
        counters.map(|counters| counter(counters).get()).fold(0, u64::wrapping_add)
    };
    let record = &backend.record;
    let neighbour = memory.control.neighbours.get(record.neighbour);
    BackendRow {
        id: backend.id.0,
        name: backend.name.clone(),
        address: endpoint(record.address, record.port),
        protocol: record.protocol.name(),
        state: state(backend),
        health: details.health,
        load: LoadRow::read(memory, backend.id, now_ms),
        services: Vec::new(),
        next_hop: neighbour.map(|(_, address, _)| address.to_string()),
        next_hop_mac: neighbour.and_then(|(.., mac)| mac).map(|mac| mac.to_string()),
        interface: neighbour.and_then(|(interface, ..)| memory.interface_name(interface.0)),
        counts: Counts::default(),
        opened: sum(|c| &c.opened),
        packets: sum(|c| &c.packets),
        bytes: sum(|c| &c.bytes),
    }
}

fn state(backend: &Backend) -> &'static str {
    if backend.is(BackendRecord::REMOVED) {
        "removed"
    } else if backend.is(BackendRecord::DRAINED) {
        "drained"
    } else if backend.is(BackendRecord::UP) {
        "up"
    } else {
        "down"
    }
}

fn members(configuration: &Configuration, backend: &Backend, why: &HashMap<String, String>) -> Vec<MemberRow> {
    let all = configuration.services.iter().flat_map(|service| service.members.iter().map(move |m| (service, m)));
    let own = all.filter(|(_, member)| member.backend == backend.id.0);
    let row = |(service, member): (&Service, &MemberRecord)| {
        let slots = service.slots.get(&backend.id).copied().unwrap_or(0);
        let share = 100.0 * f64::from(slots) / f64::from(service.record.slots_count.max(1));
        MemberRow {
            service: service.name.clone(),
            weight: member.weight,
            effective_weight: member.effective,
            factor: f64::from(member.factor_permille) / 1000.0,
            why: why.get(&service.name).cloned(),
            slots_percent: service.record.algorithm.uses_slots().then_some(share),
        }
    };
    own.map(row).collect()
}

impl BackendRow {
    fn way(&self) -> String {
        match (&self.next_hop, &self.next_hop_mac) {
            (_, Some(mac)) => mac.clone(),
            (Some(_), None) => "unresolved".to_owned(),
            (None, None) => "no route".to_owned(),
        }
    }

    /// The cells before and after a service's cells.
    fn cells(&self) -> ([String; 4], [String; 8]) {
        let before = [self.name.clone(), self.address.clone(), self.protocol.into(), self.state.into()];
        let after = [
            self.way(),
            or_dash(self.interface.as_ref()),
            self.counts.active.to_string(),
            self.counts.inactive.to_string(),
            self.opened.to_string(),
            self.packets.to_string(),
            bytes(self.bytes),
            self.health.clone().unwrap_or_default(),
        ];
        (before, after)
    }

    fn load_cells(&self) -> [String; 3] {
        self.load.as_ref().map_or_else(|| ["-", "-", "-"].map(str::to_owned), LoadRow::cells)
    }
}

impl MemberRow {
    fn cells(&self) -> [String; 3] {
        let now = f64::from(self.effective_weight) * self.factor;
        let now = if now.fract() == 0.0 { format!("{now}") } else { format!("{now:.2}") };
        let share = or_dash(self.slots_percent.map(|percent| format!("{percent:.1}%")));
        [self.service.clone(), format!("{}/{now}", self.weight), share]
    }
}

impl Report for BackendsReport {
    /// A backend of several services has one additional line for each.
    fn text(&self) -> String {
        if self.backends.is_empty() {
            return "no backend is configured\n".to_owned();
        }
        let feedback = self.has_feedback();
        let titles = ["NAME", "ADDRESS", "PROTO", "STATE", "SERVICE", ">WEIGHT/NOW", ">SLOTS"];
        let of_feedback = [">LOAD", ">WORKERS", ">REPORT", "WHY"].into_iter().filter(|_| feedback);
        let more = ["NEXT HOP", "INTERFACE", ">ACTIVE", ">INACTIVE", ">OPENED", ">PACKETS", ">BYTES", "HEALTH"];
        let mut table = Table::new(titles.into_iter().chain(of_feedback).chain(more));
        for backend in &self.backends {
            let (before, after) = backend.cells();
            let mut services = backend.services.iter();
            let first = services.next();
            let member = first.map_or_else(|| ["-", "-", "-"].map(str::to_owned), MemberRow::cells);
            let why = first.and_then(|service| service.why.clone()).unwrap_or_default();
            let load = backend.load_cells().into_iter().chain([why]).filter(|_| feedback);
            table.row(before.into_iter().chain(member).chain(load).chain(after));
            for service in services {
                let why = service.why.clone().unwrap_or_default();
                let load = std::iter::repeat_n(String::new(), 3).chain([why]).filter(|_| feedback);
                table.row(std::iter::repeat_n(String::new(), 4).chain(service.cells()).chain(load));
            }
        }
        table.to_string()
    }
}
