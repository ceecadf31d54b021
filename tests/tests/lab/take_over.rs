//! A keeper that finds living switchers takes over although the machine isn't as at the start, and one that is refused
//! beside a living keeper takes nothing away from it.

use anyhow::{Result, ensure};
use shunt_tests::lab::{ECHO, Lab, Shape, WEB};
use shunt_tests::operator::binaries;
use shunt_tests::supervisor::pid_of;
use shunt_tests::traffic::http::{get, get_many};
use shunt_tests::traffic::streams::Streams;
use shunt_tests::wait::until;
use std::os::unix::fs::MetadataExt;

pub fn take_over() -> Result<()> {
    for port in ["af_xdp", "af_packet"] {
        let lab = Lab::up("takeover", Shape { port, ..Shape::default() })?;
        let switcher = pid_of(lab.name(), "switcher.0")?;
        let streams = Streams::start(&lab.client(), ECHO, 8)?;
        with_a_link_down(&lab)?;
        beside_a_living_keeper(&lab)?;
        streams.finish()?;
        ensure!(pid_of(lab.name(), "switcher.0")? == switcher, "the switcher was started again");
        // The socket is the living keeper's: a switcher that is started now is answered.
        lab.kill(&["switcher.0"])?;
        get_many(&lab.client(), WEB, 20)?;
    }
    Ok(())
}

/// At a start from nothing it is a refusal.
fn with_a_link_down(lab: &Lab) -> Result<()> {
    lab.balancer().ip("link set dev back0 down")?;
    lab.kill(&["keeper"])?;
    let warned = "interface.back0: it is down; set it up: ip link set dev back0 up; going on, because switchers run";
    ensure!(lab.log()?.contains(warned), "no warning: {}", lab.log()?);
    lab.balancer().ip("link set dev back0 up")?;
    until("an answer after the link is up", || Ok(lab.client().inside(|| get(WEB)).ok()))?;
    Ok(())
}

fn beside_a_living_keeper(lab: &Lab) -> Result<()> {
    let socket = format!("/run/shunt/{}/keeper.sock", lab.name());
    let before = std::fs::metadata(&socket)?.ino();
    let mut second = lab.balancer().command(binaries()?.join("shunt-keeper"));
    let output = second.arg("--config").arg(lab.configuration_path()).output()?;
    ensure!(output.status.code() == Some(78), "{output:?}");
    ensure!(std::fs::metadata(&socket)?.ino() == before, "the living keeper's socket was replaced");
    Ok(())
}
