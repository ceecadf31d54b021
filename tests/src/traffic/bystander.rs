//! A server on the balancer itself, as SSH would be: on its own address none of Shunt's business, on one of the
//! pseudo-interface's reached through Shunt.

use super::Stop;
use crate::namespace::Namespace;
use anyhow::Result;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

/// The balancer's own address.
pub const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 0, 1)), 22);

/// Echoes every connection until it is dropped.
pub struct Bystander {
    stop: Stop,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Bystander {
    /// Listens in the balancer's namespace.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        Self::start_at(namespace, ADDRESS)
    }

    /// Listens there in a namespace.
    pub fn start_at(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let listener = namespace.inside(move || Ok(TcpListener::bind(address)?))?;
        listener.set_nonblocking(true)?;
        let stop = Stop::default();
        let ordered = stop.clone();
        let thread = std::thread::spawn(move || accept(&listener, &ordered));
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.stop.order();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn accept(listener: &TcpListener, stop: &Stop) -> Result<()> {
    while !stop.is_ordered() {
        match listener.accept() {
            Ok((stream, _)) => drop(std::thread::spawn(move || echo(stream))),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    Ok(())
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            length => stream.write_all(&bytes[..length])?,
        }
    }
}
