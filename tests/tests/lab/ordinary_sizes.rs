//! As many ports at one address, services and backends as an ordinary user has: each of them serves, after a reload and
//! after a cold start.

use anyhow::{Context, Result, ensure};
use shunt_tests::configuration::Configuration;
use shunt_tests::lab::{Lab, Shape, WEB};
use shunt_tests::namespace::Namespace;
use shunt_tests::wait::until;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::time::Duration;

/// Services at the lab's service address, each with a backend of its own at the first server, on the same port.
const PORTS: Range<u16> = 8000..8300;
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 11);

pub fn ordinary_sizes() -> Result<()> {
    let mut lab = Lab::up_patient("sizes", Shape::default())?;
    serve_ports(&lab.server(1))?;
    lab.reload(&with_services(&lab.configuration()?))?;
    ask_every_port(&lab).context("after a reload")?;
    let services = lab.operator().services()?.len();
    ensure!(services >= PORTS.len(), "{services} services are shown");
    lab.stop_shunt()?;
    lab.start_shunt()?;
    ask_every_port(&lab).context("after a cold start")
}

/// Threads that answer each connection with the port it came to, until the process ends.
fn serve_ports(server: &Namespace) -> Result<()> {
    server.inside(|| {
        for port in PORTS {
            let listener = TcpListener::bind(SocketAddr::from((SERVER, port)))?;
            std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
                for stream in listener.incoming().flatten() {
                    let _ = (&stream).write_all(port.to_string().as_bytes());
                }
            })?;
        }
        Ok(())
    })
}

fn with_services(configuration: &Configuration) -> Configuration {
    let mut text = configuration.0.clone();
    for port in PORTS {
        write!(
            text,
            "\n[[service]]\nname = \"s{port}\"\naddress = \"{}:{port}\"\nprotocol = \"tcp\"\nmode = \"nat\"\n\
             backend = [{{ name = \"many-{port}\", address = \"{SERVER}:{port}\" }}]\n",
            WEB.ip()
        )
        .expect("a String takes all");
    }
    Configuration(text)
}

/// Each port answers with its own number.
fn ask_every_port(lab: &Lab) -> Result<()> {
    // The first answers wait for the publication and for the neighbours.
    let first = PORTS.start;
    until("an answer through the first of many ports", || Ok(ask(lab, first..first + 1)?.remove(&first)))?;
    let answers = ask(lab, PORTS)?;
    let wrong: Vec<_> = PORTS.filter(|port| answers.get(port) != Some(&port.to_string())).collect();
    ensure!(wrong.is_empty(), "{} of {} ports don't answer: {wrong:?}", wrong.len(), PORTS.len());
    Ok(())
}

fn ask(lab: &Lab, ports: Range<u16>) -> Result<BTreeMap<u16, String>> {
    lab.client().inside(move || {
        Ok(ports.filter_map(|port| Some((port, answer(SocketAddr::new(WEB.ip(), port)).ok()?))).collect())
    })
}

fn answer(service: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&service, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
