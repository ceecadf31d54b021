//! What makes a service or a backend the same one: through a reload, and through a restart of control.

use std::net::{IpAddr, SocketAddr};

use shunt_shmlayout::address::{Address, PortBe, Protocol};

use super::convert;

/// Address, port and protocol. Names may change; ids follow this.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Identity {
    /// Where it listens.
    pub address: Address,
    /// On which port.
    pub port: PortBe,
    /// By which protocol.
    pub protocol: Protocol,
}

impl Identity {
    /// From the configuration's words.
    pub fn new(at: SocketAddr, protocol: shunt_config::Protocol) -> Self {
        Self { address: at.ip().into(), port: PortBe::new(at.port()), protocol: convert::protocol(protocol) }
    }

    /// Address and port, for messages and for the stable key.
    pub fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::from(self.address), self.port.get())
    }
}
