//! `shunt services`.

use super::activity::{Counts, Use};
use super::endpoint;
use crate::configuration::{Configuration, Service};
use crate::format::bytes;
use crate::memory::Memory;
use crate::output::Report;
use crate::table::Table;
use serde::Serialize;
use shunt_shmlayout::address::BackendId;
use shunt_shmlayout::config_table::BackendRecord;
use shunt_shmlayout::record::Counter;
use shunt_shmlayout::regions::ServiceCounters;
use shunt_shmlayout::service::Target;

/// One service.
#[derive(Debug, Serialize)]
pub struct ServiceRow {
    /// Its id, the same from one configuration to the next.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// Client-facing address and port.
    pub address: String,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// `backends`, or `host`: the box's own programs, whose connections are not counted.
    pub target: &'static str,
    /// `nat` or `dsr`; `host` if the box's own programs serve it.
    pub mode: &'static str,
    /// As configured: `static`, `even`, `lightest`, `least-connections`, `latency`, `source-hash`.
    pub algorithm: &'static str,
    /// Number of client ranges with their own backends.
    pub client_ranges: u32,
    /// `up`, `no-backend` while no backend takes its connections, `removed` while its last connections finish.
    pub state: &'static str,
    /// Backends that are up and not drained.
    pub backends_up: usize,
    /// Configured backends.
    pub backends_total: usize,
    /// Its entries in the connection table.
    #[serde(flatten)]
    pub counts: Counts,
    /// Connections recorded since the start.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Packets to clients.
    pub packets_out: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// New connections that no backend could take.
    pub refused: u64,
    /// Connections moved to another backend, because their own was down or drained for too long.
    pub moved: u64,
    /// Connections that were reset for the same reason.
    pub reset: u64,
}

/// All services.
#[derive(Debug, Serialize)]
pub struct ServicesReport {
    /// By id.
    pub services: Vec<ServiceRow>,
}

impl ServicesReport {
    /// Reads the services.
    pub fn read(memory: &Memory, configuration: &Configuration) -> Self {
        let usage = Use::of(&memory.connections);
        let row = |service: &Service| row(memory, configuration, service, usage.of_service(service.id));
        Self { services: configuration.services.iter().map(row).collect() }
    }
}

fn row(memory: &Memory, configuration: &Configuration, service: &Service, counts: Counts) -> ServiceRow {
    let sum = |counter: fn(&ServiceCounters) -> &Counter| -> u64 {
        let counters = memory.switchers.iter().filter_map(|region| region.services.get(usize::from(service.id.0)));
        counters.map(|counters| counter(counters).get()).sum()
    };
    let takes = |id: u16| {
        configuration.backend(BackendId(id)).is_some_and(|backend| {
            backend.is(BackendRecord::UP) && !backend.is(BackendRecord::DRAINED) && !backend.is(BackendRecord::REMOVED)
        })
    };
    let record = &service.record;
    ServiceRow {
        id: service.id.0,
        name: service.name.clone(),
        address: endpoint(record.address, record.port),
        protocol: record.protocol.name(),
        target: record.target.name(),
        mode: match record.target {
            Target::Host => "host",
            Target::Backends => record.mode.name(),
        },
        algorithm: record.algorithm.name(),
        client_ranges: record.classes_count,
        state: match (record.target, record.slots_count, record.members_count) {
            (Target::Host, ..) => "up",
            (Target::Backends, 0, 0) => "removed",
            (Target::Backends, 0, _) => "no-backend",
            (Target::Backends, ..) => "up",
        },
        backends_up: service.members.iter().filter(|member| takes(member.backend)).count(),
        backends_total: service.members.len(),
        counts,
        connections: sum(|c| &c.connections),
        packets_in: sum(|c| &c.packets_in),
        bytes_in: sum(|c| &c.bytes_in),
        packets_out: sum(|c| &c.packets_out),
        bytes_out: sum(|c| &c.bytes_out),
        refused: sum(|c| &c.refused),
        moved: sum(|c| &c.moved),
        reset: sum(|c| &c.reset),
    }
}

impl Report for ServicesReport {
    fn text(&self) -> String {
        if self.services.is_empty() {
            return "no service is configured\n".to_owned();
        }
        let mut table = Table::new([
            "NAME",
            "ADDRESS",
            "PROTO",
            "MODE",
            "ALGORITHM",
            "STATE",
            ">BACKENDS",
            ">ACTIVE",
            ">INACTIVE",
            ">NEW",
            ">PACKETS IN",
            ">BYTES IN",
            ">PACKETS OUT",
            ">BYTES OUT",
            ">REFUSED",
            ">MOVED",
            ">RESET",
        ]);
        for service in &self.services {
            table.row([
                service.name.clone(),
                service.address.clone(),
                service.protocol.into(),
                service.mode.into(),
                service.algorithm.into(),
                service.state.into(),
                format!("{}/{}", service.backends_up, service.backends_total),
                service.counts.active.to_string(),
                service.counts.inactive.to_string(),
                service.connections.to_string(),
                service.packets_in.to_string(),
                bytes(service.bytes_in),
                service.packets_out.to_string(),
                bytes(service.bytes_out),
                service.refused.to_string(),
                service.moved.to_string(),
                service.reset.to_string(),
            ]);
        }
        table.to_string()
    }
}
