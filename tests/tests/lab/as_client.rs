//! Health checks that take a client's way find what a check at the back-end's own address can't see.

use anyhow::{Result, ensure};
use shunt_tests::lab::{Lab, Shape, WEB};
use shunt_tests::runner::Test;
use shunt_tests::traffic::http::get_many;
use shunt_tests::wait::until;
use std::net::TcpStream;
use std::time::Duration;

/// Its web server, and what echoes by TCP and UDP.
const VICTIM: [&str; 3] = ["b1", "b1-echo", "b1-udp"];

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("as_client_dsr_xdp", || dsr("af_xdp")),
        Test::new("as_client_dsr_packet", || dsr("af_packet")),
        Test::new("as_client_nat", nat),
        Test::new("as_client_unanswered", unanswered),
    ]
}

/// Without the service's address on its loopback a back-end swallows every client's packet, though it answers at its own.
fn dsr(port: &'static str) -> Result<()> {
    let lab = Lab::up("asclient", Shape { mode: "dsr", port, ..Shape::default() })?;
    lab.operator().await_state(&VICTIM, "up")?;
    lab.server(1).ip("addr del 198.18.0.100/32 dev lo")?;
    only_the_other_serves(&lab)?;
    lab.server(1).ip("addr add 198.18.0.100/32 dev lo")?;
    lab.operator().await_state(&VICTIM, "up")?;
    // A reload changes only how back-ends are asked.
    lab.server(1).ip("addr del 198.18.0.100/32 dev lo")?;
    lab.operator().await_state(&VICTIM, "down")?;
    lab.reload(&lab.configuration()?.with("timeout_ms = 300", "as_client = false\ntimeout_ms = 300")?)?;
    lab.operator().await_state(&VICTIM, "up")
}

/// Without a route by Shunt a back-end's replies never reach a client, though it answers its neighbour.
fn nat() -> Result<()> {
    let lab = Lab::up("asclient", Shape::default())?;
    lab.server(1).ip("route del default via 198.18.1.1")?;
    lab.reload(&lab.configuration()?.with("timeout_ms = 300", "as_client = true\ntimeout_ms = 300")?)?;
    only_the_other_serves(&lab)?;
    lab.server(1).ip("route add default via 198.18.1.1")?;
    lab.operator().await_state(&VICTIM, "up")
}

/// Asked at its own address only, such a back-end stays up. That it answers no client is told until it does again.
fn unanswered() -> Result<()> {
    let lab = Lab::up("asclient", Shape::default())?;
    get_many(&lab.client(), WEB, 20)?;
    ensure!(!is_told(&lab)?, "both answer");
    lab.server(1).ip("route del default via 198.18.1.1")?;
    let in_vain = || lab.client().inside(|| Ok(TcpStream::connect_timeout(&WEB, Duration::from_millis(100)).is_ok()));
    until("a back-end that answers nobody", || in_vain().and_then(|_| Ok(is_told(&lab)?.then_some(()))))?;
    lab.operator().await_state(&VICTIM, "up")?;
    lab.server(1).ip("route add default via 198.18.1.1")?;
    until("its answer", || in_vain().and_then(|_| Ok((!is_told(&lab)?).then_some(()))))
}

fn is_told(lab: &Lab) -> Result<bool> {
    let problems = lab.operator().status()?.problems;
    Ok(problems.iter().any(|problem| problem.code == "backend_unanswered" && problem.object == "backend b1"))
}

fn only_the_other_serves(lab: &Lab) -> Result<()> {
    lab.operator().await_state(&VICTIM, "down")?;
    let answers = get_many(&lab.client(), WEB, 40)?;
    ensure!(answers.keys().eq(["b2"]), "{answers:?}");
    lab.operator().await_state(&["b2", "b2-echo", "b2-udp"], "up")
}
