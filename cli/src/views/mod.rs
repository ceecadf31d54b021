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
mod served;
mod services;
mod state;
mod status;
#[cfg(test)]
mod tests;

pub use backends::BackendsReport;
#[cfg(test)]
use connections::{Client, Stage};
pub use connections::{ConnectionsReport, Filter};
pub use drops::DropsReport;
pub use problems::{
    REPLACED, ROUTE_REPLIES, START_ANEW, Severity, UNFILLED_RECENT_MS, control_unanswered, faulty_host, faulty_links,
    fill_checksums, host_text, process_problems, unanswered_text,
};
pub use processes::{Process, ProcessRow, ProcessState, processes};
pub use services::ServicesReport;
pub use status::{Outside, Sample, StatusReport, StatusView};

use shunt_shmlayout::address::{Address, PortBe};
use std::net::{IpAddr, SocketAddr};

/// Address and port as the configuration writes them.
fn endpoint(address: Address, port: PortBe) -> String {
    SocketAddr::new(IpAddr::from(address), port.get()).to_string()
}

/// What is shown for a number that this build doesn't know.
const UNKNOWN: &str = "?";
