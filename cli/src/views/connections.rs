//! `shunt connections`.

use super::{UNKNOWN, endpoint};
use crate::configuration::{Configuration, ConfigurationError};
use crate::format::duration;
use crate::memory::Memory;
use crate::output::Report;
use crate::table::Table;
use serde::Serialize;
use shunt_shmlayout::address::{Address, BackendId, PortBe, Protocol, ServiceId};
use shunt_shmlayout::connections::{Activity, Snapshot, State};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Selects connections: those that match every option.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Filter {
    /// Only those in this state; may be given several times, or several states with commas.
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',')]
    pub states: Vec<Stage>,
    /// Only those of this service.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Only those at this backend.
    #[arg(long, value_name = "NAME")]
    pub backend: Option<String>,
    /// Only those of this client.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub client: Option<Client>,
    /// Show at most this many; all are counted.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = parse_limit)]
    pub limit: usize,
}

fn parse_limit(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "write a number of connections, as 50".to_owned())
}

/// A connection state on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Stage {
    /// The client has sent its SYN.
    Opening,
    /// Open; also a UDP flow.
    Established,
    /// One side has sent its FIN.
    Closing,
    /// Both sides have sent their FIN, or one its RST.
    Closed,
}

impl Stage {
    fn state(self) -> State {
        match self {
            Self::Opening => State::Opening,
            Self::Established => State::Established,
            Self::Closing => State::Closing,
            Self::Closed => State::Closed,
        }
    }
}

/// A client on the command line: one connection of it, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    address: Address,
    port: Option<PortBe>,
}

impl FromStr for Client {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let whole = text.parse().map(|address: IpAddr| Self { address: address.into(), port: None });
        let one =
            text.parse().map(|it: SocketAddr| Self { address: it.ip().into(), port: Some(PortBe::new(it.port())) });
        whole.or(one).map_err(|_| "write an address, as 198.18.0.2, or an address and port, as 198.18.0.2:57078")
    }
}

/// The filter with its names resolved.
struct ConnectionFilter {
    services: Option<Vec<ServiceId>>,
    backends: Option<Vec<BackendId>>,
    states: Vec<State>,
    client: Option<Client>,
}

impl ConnectionFilter {
    fn new(filter: &Filter, configuration: &Configuration) -> Result<Self, ConfigurationError> {
        Ok(Self {
            services: filter.service.as_deref().map(|name| configuration.services_named(name)).transpose()?,
            backends: filter.backend.as_deref().map(|name| configuration.backends_named(name)).transpose()?,
            states: filter.states.iter().map(|stage| stage.state()).collect(),
            client: filter.client,
        })
    }

    fn fits(&self, connection: &Snapshot, activity: Activity) -> bool {
        let is_clients = |client: &Client| {
            client.address == connection.client && client.port.is_none_or(|port| port == connection.client_port)
        };
        (self.states.is_empty() || self.states.contains(&activity.state))
            && self.services.as_ref().is_none_or(|ids| ids.contains(&connection.service))
            && self.backends.as_ref().is_none_or(|ids| ids.contains(&connection.backend))
            && self.client.as_ref().is_none_or(is_clients)
    }
}

/// One connection.
#[derive(Debug, Serialize)]
pub struct ConnectionRow {
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The client's address and port.
    pub client: String,
    /// The service's name, or `#ID` if the configuration does not have it.
    pub service: String,
    /// The backend's name, or `#ID`.
    pub backend: String,
    /// `opening`, `established`, `closing`, `closed`.
    pub state: &'static str,
    /// Milliseconds since it was recorded.
    pub age_ms: u64,
    /// Milliseconds since its last packet.
    pub idle_ms: u64,
    /// Subset of `answered`, `client_fin`, `backend_fin`, `client_reset`, `backend_reset`.
    pub flags: Vec<&'static str>,
}

/// The selected connections.
#[derive(Debug, Serialize)]
pub struct ConnectionsReport {
    /// Number of connections that match the filter.
    pub matching: u64,
    /// At most the filter's limit of them, unordered.
    pub connections: Vec<ConnectionRow>,
}

impl ConnectionsReport {
    /// Reads the connections; `now_ms` is of CLOCK_MONOTONIC.
    pub fn read(
        memory: &Memory,
        configuration: &Configuration,
        filter: &Filter,
        now_ms: u64,
    ) -> Result<Self, ConfigurationError> {
        let wanted = ConnectionFilter::new(filter, configuration)?;
        let mut report = Self { matching: 0, connections: Vec::new() };
        for (connection, activity, _) in memory.connections.live() {
            let fits = wanted.fits(&connection, activity);
            report.matching += u64::from(fits);
            if fits && report.connections.len() < filter.limit {
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
        protocol: connection.protocol.get().map_or(UNKNOWN, Protocol::name),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_no_number_is_refused_with_what_to_write() {
        assert_eq!(parse_limit("7"), Ok(7));
        assert!(parse_limit("x").unwrap_err().contains("write a number of connections"));
    }
}
