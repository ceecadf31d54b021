//! ICMP errors about connections reach who sent the packet, as if there were no Shunt: kernels act on them.

use super::far::{FAR, Far};
use anyhow::{Result, bail, ensure};
use nix::sys::socket::{setsockopt, sockopt::Ipv4RecvErr};
use shunt_tests::configuration::Configuration;
use shunt_tests::lab::{Lab, Shape, UDP_ECHO, WEB};
use shunt_tests::runner::Test;
use shunt_tests::wait::until;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

/// A service whose backend has nobody who listens there.
const SILENT: (&str, u16) = ("198.18.0.100", 9);
const SILENT_SERVICE: &str = r#"
[[service]]
name = "silent"
protocol = "udp"
address = "198.18.0.100:9"
mode = "nat"
[service.health]
kind = "none"
[[service.backend]]
name = "silent1"
address = "198.18.1.11:9"
"#;

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for (mode, port) in [("nat", "af_xdp"), ("nat", "af_packet"), ("dsr", "af_xdp")] {
        let shape = Shape { mode, port, ..Shape::default() };
        tests.push(Test::new(format!("icmp_path_mtu_{mode}_{port}"), move || path_mtu(shape)));
        if mode == "nat" {
            tests.push(Test::new(format!("icmp_unreachable_{port}"), move || unreachable(shape)));
        }
    }
    tests.push(Test::new("icmp_time_exceeded", time_exceeded));
    tests
}

/// A router behind the client with a smaller link: what the back-ends send is too big, and they learn so.
fn path_mtu(shape: Shape) -> Result<()> {
    let lab = Lab::up_patient("icmpmtu", shape)?;
    let far = Far::behind_client(&lab)?;
    let learned = |number: usize| lab.server(number).ip(&format!("route get {FAR}"));
    for number in 1..=shape.backends {
        if shape.mode == "dsr" {
            // Its replies don't pass the balancer, which is no gateway of its.
            lab.server(number).ip("route add 198.18.2.0/24 via 198.18.1.2")?;
        }
        ensure!(!learned(number)?.contains("mtu"), "back-end {number} knows the path's MTU already");
    }
    until("all back-ends to learn the path's MTU", || {
        far.fetch_big(WEB)?;
        let routes = (1..=shape.backends).map(learned).collect::<Result<Vec<_>>>()?;
        Ok(routes.iter().all(|route| route.contains("mtu 1280")).then_some(()))
    })?;
    lab.operator().await_balance(0)
}

/// Nobody listens on the back-end's port: the client's program is told so, and by the service.
fn unreachable(shape: Shape) -> Result<()> {
    let lab = Lab::up_patient("icmprefuse", shape)?;
    lab.reload(&Configuration(lab.configuration()?.0 + SILENT_SERVICE))?;
    lab.client().inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        // A connected socket is told of errors about its peer alone.
        socket.connect(SILENT)?;
        await_error(&socket, ErrorKind::ConnectionRefused)
    })?;
    lab.operator().await_balance(0)
}

/// Shunt is a router: what must go no further is told so by it, from the service's address.
fn time_exceeded() -> Result<()> {
    let lab = Lab::up_patient("icmptime", Shape::default())?;
    lab.client().inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(UDP_ECHO)?;
        socket.set_ttl(1)?;
        setsockopt(&socket, Ipv4RecvErr, &true)?;
        await_error(&socket, ErrorKind::HostUnreachable)
    })?;
    lab.operator().await_balance(0)
}

/// Sends datagrams until the system says that one came to this.
fn await_error(socket: &UdpSocket, expected: ErrorKind) -> Result<()> {
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    until("an ICMP error", || {
        let sent = socket.send(b"a question that is long enough to be quoted").map(drop);
        match sent.and_then(|()| socket.recv(&mut [0; 64]).map(drop)) {
            Err(error) if error.kind() == expected => Ok(Some(())),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
            Ok(()) => bail!("somebody answered"),
        }
    })
}
