//! Health checks that take a client's way find what a check at the back-end's own address can't see.

use anyhow::{Result, ensure};
use shunt_tests::lab::{Lab, Shape, WEB};
use shunt_tests::runner::Test;
use shunt_tests::traffic::http::get_many;

/// Its web server, and what echoes by TCP and UDP.
const VICTIM: [&str; 3] = ["b1", "b1-echo", "b1-udp"];

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("as_client_dsr_xdp", || dsr("af_xdp")),
        Test::new("as_client_dsr_packet", || dsr("af_packet")),
        Test::new("as_client_nat", nat),
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

fn only_the_other_serves(lab: &Lab) -> Result<()> {
    lab.operator().await_state(&VICTIM, "down")?;
    let answers = get_many(&lab.client(), WEB, 40)?;
    ensure!(answers.keys().eq(["b2"]), "{answers:?}");
    lab.operator().await_state(&["b2", "b2-echo", "b2-udp"], "up")
}
