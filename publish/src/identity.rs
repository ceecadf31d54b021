//! What makes a service or a backend the same one: through a reload, and through a restart of control.

use std::net::{IpAddr, SocketAddr};

use shunt_config::Protocol;
use shunt_shmlayout::address::{Address, PortBe, TCP, UDP};

/// Address, port and protocol. Names may change; ids follow this.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Identity {
    /// Where it listens.
    pub address: Address,
    /// On which port.
    pub port: PortBe,
    /// IP protocol number.
    pub protocol: u8,
}

impl Identity {
    /// From the configuration's words.
    pub fn new(at: SocketAddr, protocol: Protocol) -> Self {
        let protocol = match protocol {
            Protocol::Tcp => TCP,
            Protocol::Udp => UDP,
        };
        Self { address: at.ip().into(), port: PortBe::new(at.port()), protocol }
    }

    /// Address and port, for messages and for the stable key.
    pub fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::from(self.address), self.port.get())
    }
}
