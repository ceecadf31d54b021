//! An agent that watches a mistyped port draws no connections: nobody is ever served there, which would look like the least
//! loaded backend of all.

use anyhow::{Context, Result, ensure};
use shunt_tests::configuration::Configuration;
use shunt_tests::lab::{Lab, Shape};
use shunt_tests::operator::{Member, binaries};
use shunt_tests::wait::until;
use std::fmt::Write;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::follow::Servers;

const BACKENDS: usize = 3;
const PORT: u16 = 8000;
/// Clients of each server that has any.
const CLIENTS: usize = 20;
/// Long enough for `even` to reach its limits at the slew limit of this test.
const OBSERVED: Duration = Duration::from_secs(3);

/// Nobody listens on the first server, and nobody checks that.
fn nobody_listens(lab: &Lab, folder: &Path) -> Result<()> {
    let _clients = (2..=BACKENDS).map(|number| serve(lab, number)).collect::<Result<Vec<_>>>()?;
    let _agents = agents(lab, folder, PORT)?;
    keeps_its_share(lab, "report ignored: no process has ever listened on port 8000", "never_listening")
}

/// All are served alike, and one agent looks elsewhere.
fn another_port(lab: &Lab, folder: &Path) -> Result<()> {
    let _clients = (1..=BACKENDS).map(|number| serve(lab, number)).collect::<Result<Vec<_>>>()?;
    let _agents = agents(lab, folder, PORT + 1)?;
    keeps_its_share(lab, "report ignored: agent watches port 8001", "other_port")
}

/// Clients of a server, from the balancer, whose kernel completes the connections.
fn serve(lab: &Lab, number: usize) -> Result<(TcpListener, Vec<TcpStream>)> {
    let address = format!("198.18.1.{}:{PORT}", 10 + number);
    let listener = {
        let address = address.clone();
        lab.server(number).inside(move || Ok(TcpListener::bind(address)?))?
    };
    let clients = lab.balancer().inside(move || (0..CLIENTS).map(|_| Ok(TcpStream::connect(&address)?)).collect())?;
    Ok((listener, clients))
}

fn agents(lab: &Lab, folder: &Path, port_of_first: u16) -> Result<Servers> {
    let mut servers = Servers::default();
    for number in 1..=BACKENDS {
        let key = folder.join(format!("p{number}"));
        let port = if number == 1 { port_of_first } else { PORT };
        let mut agent = lab.server(number).command(binaries()?.join("shunt-agent"));
        agent.args(["--name", &format!("server-{number}"), "--control", "198.18.1.1:7946", "--key-file"]).arg(key);
        agent.args(["--backend", &format!("p{number}={port}")]).stderr(Stdio::null());
        servers.spawn(agent)?;
    }
    Ok(servers)
}

fn keeps_its_share(lab: &Lab, why: &str, outcome: &str) -> Result<()> {
    let operator = lab.operator();
    let member = |name: &str| -> Result<Member> {
        operator.backend(name)?.services.into_iter().find(|member| member.service == "pool").context("the service")
    };
    until(why, || Ok((member("p1")?.why.as_deref() == Some(why)).then_some(())))?;
    until("the others' reports", || Ok(member("p2")?.why.is_some_and(|why| why.starts_with("even: ")).then_some(())))?;
    let end = Instant::now() + OBSERVED;
    while Instant::now() < end {
        let share = member("p1")?.slots_percent.context("a share")?;
        ensure!((30.0..37.0).contains(&share), "{why}: {share} % of the slots");
    }
    let status = operator.status()?;
    ensure!(status.reports.iter().any(|count| count.outcome == outcome && count.count > 0), "{:?}", status.reports);
    let log = lab.log()?;
    let warnings = log.lines().filter(|line| line.contains("backend p1 of service pool: its agent")).count();
    ensure!(warnings == 1, "{warnings} warnings:\n{log}");
    Ok(())
}

/// The laboratory's configuration with a service that nobody checks.
fn configuration(lab: &Lab, folder: &Path) -> Result<Configuration> {
    let mut text = lab.configuration()?.0;
    text += "\n[feedback]\nlisten = \"198.18.1.1:7946\"\nsmoothing_ms = 50\nslew_permille_per_s = 10000\n\
        [[service]]\nname = \"pool\"\nprotocol = \"tcp\"\naddress = \"198.18.0.100:8000\"\nmode = \"nat\"\n\
        algorithm = \"even\"\n[service.health]\nkind = \"none\"\n";
    for number in 1..=BACKENDS {
        let address = format!("198.18.1.{}:{PORT}", 10 + number);
        writeln!(text, "[[service.backend]]\nname = \"p{number}\"\naddress = {address:?}")?;
    }
    for number in 1..=BACKENDS {
        let key = folder.join(format!("p{number}"));
        fs::write(&key, format!("{number}").repeat(64))?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        writeln!(text, "[[agent]]\nname = \"server-{number}\"\nkey_file = {key:?}\nbackends = [\"p{number}\"]")?;
    }
    Ok(Configuration(text))
}

pub fn wrong_port() -> Result<()> {
    for case in [nobody_listens, another_port] {
        let lab = Lab::up_patient("port", Shape { backends: BACKENDS, ..Shape::default() })?;
        let folder = tempfile::tempdir()?;
        lab.reload(&configuration(&lab, folder.path())?)?;
        case(&lab, folder.path())?;
    }
    Ok(())
}
