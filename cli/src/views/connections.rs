//! `shunt connections`.

use super::{endpoint, protocol_name};
use crate::configuration::{Configuration, ConfigurationError};
use crate::format::duration;
use crate::memory::Memory;
use crate::output::Report;
use crate::table::Table;
use serde::Serialize;
use shunt_shmlayout::address::{BackendId, ServiceId};
use shunt_shmlayout::connections::{Activity, Snapshot, State};

/// Which connections are shown.
#[derive(Debug, Clone, clap::Args)]
pub struct Filter {
    /// Only those of this service.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Only those at this backend.
    #[arg(long, value_name = "NAME")]
    pub backend: Option<String>,
    /// At most so many; all are counted.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
}

/// One connection.
#[derive(Debug, Serialize)]
pub struct ConnectionRow {
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The client's address and port.
    pub client: String,
    /// The service's name, or `#ID` if the configuration has none of this id.
    pub service: String,
    /// The backend's name, or `#ID`.
    pub backend: String,
    /// `opening`, `established`, `closing`, `closed`.
    pub state: &'static str,
    /// Milliseconds since it was recorded.
    pub age_ms: u64,
    /// Milliseconds since its last packet.
    pub idle_ms: u64,
    /// Of `answered`, `client_fin`, `backend_fin`, `client_reset`, `backend_reset`.
    pub flags: Vec<&'static str>,
}

/// Some of the connections that live now.
#[derive(Debug, Serialize)]
pub struct ConnectionsReport {
    /// How many there are that fit the filter.
    pub matching: u64,
    /// At most the filter's limit of them, in no order.
    pub connections: Vec<ConnectionRow>,
}

impl ConnectionsReport {
    /// Reads them; `now_ms` is of CLOCK_MONOTONIC.
    pub fn read(
        memory: &Memory,
        configuration: &Configuration,
        filter: &Filter,
        now_ms: u64,
    ) -> Result<Self, ConfigurationError> {
        let services = filter.service.as_deref().map(|name| configuration.services_named(name)).transpose()?;
        let backends = filter.backend.as_deref().map(|name| configuration.backends_named(name)).transpose()?;
        let mut report = Self { matching: 0, connections: Vec::new() };
        for (connection, activity, _) in memory.connections.live() {
            let wanted = services.as_ref().is_none_or(|ids| ids.contains(&connection.service))
                && backends.as_ref().is_none_or(|ids| ids.contains(&connection.backend));
            report.matching += u64::from(wanted);
            if wanted && report.connections.len() < filter.limit {
                report.connections.push(row(configuration, &connection, activity, now_ms));
            }
        }
        Ok(report)
    }
}

fn row(configuration: &Configuration, connection: &Snapshot, activity: Activity, now_ms: u64) -> ConnectionRow {
    let flags = [
        (Activity::ANSWERED, "answered"),
        (Activity::CLIENT_FIN, "client_fin"),
        (Activity::BACKEND_FIN, "backend_fin"),
        (Activity::CLIENT_RESET, "client_reset"),
        (Activity::BACKEND_RESET, "backend_reset"),
    ];
    ConnectionRow {
        protocol: protocol_name(connection.protocol),
        client: endpoint(connection.client, connection.client_port),
        service: service_name(configuration, connection.service),
        backend: backend_name(configuration, connection.backend),
        state: state_name(activity.state),
        age_ms: now_ms.saturating_sub(connection.created_ms),
        idle_ms: now_ms.saturating_sub(activity.last_seen_ms),
        flags: flags.into_iter().filter(|(bit, _)| activity.flags & bit != 0).map(|(_, name)| name).collect(),
    }
}

fn service_name(configuration: &Configuration, id: ServiceId) -> String {
    let found = configuration.services.iter().find(|service| service.id == id);
    found.map_or_else(|| format!("#{}", id.0), |service| service.name.clone())
}

fn backend_name(configuration: &Configuration, id: BackendId) -> String {
    configuration.backend(id).map_or_else(|| format!("#{}", id.0), |backend| backend.name.clone())
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Dead => "dead",
        State::Opening => "opening",
        State::Established => "established",
        State::Closing => "closing",
        State::Closed => "closed",
    }
}

impl Report for ConnectionsReport {
    fn text(&self) -> String {
        let mut table = Table::new(["PROTO", "CLIENT", "SERVICE", "BACKEND", "STATE", ">AGE", ">IDLE", "FLAGS"]);
        for connection in &self.connections {
            table.row([
                connection.protocol.into(),
                connection.client.clone(),
                connection.service.clone(),
                connection.backend.clone(),
                connection.state.into(),
                duration(connection.age_ms),
                duration(connection.idle_ms),
                connection.flags.join(","),
            ]);
        }
        let shown = self.connections.len() as u64;
        match self.matching {
            0 => "no connection\n".to_owned(),
            all if all > shown => format!("{table}{shown} of {all} connections; --limit N shows more\n"),
            _ => table.to_string(),
        }
    }
}
