//! What the commands show, each as plain rows made from shared memory, and as a table of them.
//!
//! Making rows and printing them are apart, so that both are tested without a terminal or a running Shunt.

mod activity;
mod backends;
mod connections;
mod drops;
pub mod fields;
mod host;
mod load;
mod ports;
mod problems;
mod processes;
mod services;
mod status;
#[cfg(test)]
mod tests;

pub use backends::BackendsReport;
#[cfg(test)]
use connections::{Client, Stage};
pub use connections::{ConnectionsReport, Filter};
pub use drops::DropsReport;
pub use problems::{ROUTE_REPLIES, Severity, UNFILLED_RECENT_MS, fill_checksums, process_problems, unanswered_text};
pub use processes::{ProcessRow, ProcessState, processes};
pub use services::ServicesReport;
pub use status::{Sample, StatusReport, StatusView};

use shunt_shmlayout::address::{Address, PortBe, TCP, UDP};
use shunt_shmlayout::config_table::{
    ALGORITHM_EVEN, ALGORITHM_LATENCY, ALGORITHM_LEAST_CONNECTIONS, ALGORITHM_LIGHTEST, ALGORITHM_SLOTS,
    ALGORITHM_SOURCE_HASH, MODE_DSR, MODE_NAT,
};
use std::net::{IpAddr, SocketAddr};

/// Address and port as the configuration writes them.
fn endpoint(address: Address, port: PortBe) -> String {
    SocketAddr::new(IpAddr::from(address), port.get()).to_string()
}

fn protocol_name(protocol: u8) -> &'static str {
    match protocol {
        TCP => "tcp",
        UDP => "udp",
        _ => "?",
    }
}

fn algorithm_name(algorithm: u8) -> &'static str {
    match algorithm {
        ALGORITHM_SLOTS => "static",
        ALGORITHM_EVEN => "even",
        ALGORITHM_SOURCE_HASH => "source-hash",
        ALGORITHM_LIGHTEST => "lightest",
        ALGORITHM_LEAST_CONNECTIONS => "least-connections",
        ALGORITHM_LATENCY => "latency",
        _ => "?",
    }
}

/// Whether a service of this algorithm chooses by the cells of its table; the others choose among its members.
fn uses_slots(algorithm: u8) -> bool {
    matches!(algorithm, ALGORITHM_SLOTS | ALGORITHM_EVEN | ALGORITHM_SOURCE_HASH)
}

fn mode_name(mode: u8) -> &'static str {
    match mode {
        MODE_DSR => "dsr",
        MODE_NAT => "nat",
        _ => "?",
    }
}
