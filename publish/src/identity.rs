//! Identifies a service or a backend across reloads and restarts of control.

use std::net::{IpAddr, SocketAddr};

use shunt_shmlayout::address::{Address, PortBe, Protocol};

use super::convert;

/// Address, port and protocol. Names may change; ids follow this.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Identity {
    /// Its address.
    pub address: Address,
    /// Its port.
    pub port: PortBe,
    /// Its protocol.
    pub protocol: Protocol,
}

impl Identity {
    /// Converts the configuration's types.
    pub fn new(at: SocketAddr, protocol: shunt_config::Protocol) -> Self {
        Self { address: at.ip().into(), port: PortBe::new(at.port()), protocol: convert::protocol(protocol) }
    }

    /// Address and port, for messages and for the stable key.
    pub fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::from(self.address), self.port.get())
    }
}
