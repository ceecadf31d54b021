//! An interface goes down and up again: traffic resumes without a restart.

use anyhow::Result;
use shunt_tests::lab::{ECHO, Lab, Shape, UDP_ECHO, WEB};
use shunt_tests::supervisor::pid_of;
use shunt_tests::traffic::datagrams::exchange;
use shunt_tests::traffic::http::{get, get_many};
use shunt_tests::traffic::streams::Streams;
use shunt_tests::wait::until;
use std::time::Duration;

/// How long it is down: long enough for packets to run into it.
const DOWN: Duration = Duration::from_millis(300);

pub fn interface() -> Result<()> {
    for port in ["af_xdp", "af_packet"] {
        let lab = Lab::up("link", Shape { port, ..Shape::default() })?;
        let before = pid_of(lab.name(), "switcher.0")?;
        let streams = Streams::start(&lab.client(), ECHO, 8)?;
        for interface in ["client0", "back0"] {
            lab.balancer().ip(&format!("link set dev {interface} down"))?;
            std::thread::sleep(DOWN);
            lab.balancer().ip(&format!("link set dev {interface} up"))?;
            until(&format!("an answer after {interface} was down"), || Ok(lab.client().inside(|| get(WEB)).ok()))?;
        }
        lab.operator().await_state(&["b1", "b2", "b1-echo", "b2-echo", "b1-udp", "b2-udp"], "up")?;
        streams.finish()?;
        get_many(&lab.client(), WEB, 20)?;
        exchange(&lab.client(), UDP_ECHO, 8, 5)?;
        anyhow::ensure!(pid_of(lab.name(), "switcher.0")? == before, "the switcher was started again");
        lab.operator().await_balance(0)?;
    }
    Ok(())
}
