//! Drain and enable under load: no request fails, the drained backend keeps its long connections and gets no new one.

use anyhow::{Result, ensure};
use shunt_tests::lab::{ECHO, Lab, Shape, WEB};
use shunt_tests::traffic::http::get_many;
use shunt_tests::traffic::load::Load;
use shunt_tests::traffic::streams::Streams;
use shunt_tests::wait::until;

pub fn drain() -> Result<()> {
    let lab = Lab::up_patient("drain", Shape { switchers: 2, ..Shape::default() })?;
    let operator = lab.operator();
    let load = Load::start(&lab)?;
    let long = operator.backend("b1-echo")?.active_connections;
    ensure!(long > 0, "none of the long connections went to b1");

    // One unknown name, and nothing is drained.
    let unknown = operator.try_order("drain b1 b9")?;
    let text = String::from_utf8_lossy(&unknown.stderr);
    ensure!(!unknown.status.success() && text.contains("b9") && text.contains("b1-echo"), "drain b1 b9: {text}");
    operator.await_state(&["b1"], "up")?;
    ensure!(operator.order("drain b1 b1-echo")? == "b1, b1-echo are drained\n");
    let before = operator.backend("b1-echo")?;
    ensure!(before.state == "drained", "{before:?}");
    let answers = get_many(&lab.client(), WEB, 60)?;
    ensure!(answers.keys().eq(["b2"]), "with b1 drained: {answers:?}");
    let newcomers = Streams::start(&lab.client(), ECHO, 12)?;
    let after = operator.backend("b1-echo")?;
    ensure!(after.opened == before.opened, "a drained backend got new connections: {before:?}, then {after:?}");
    ensure!(after.active_connections == long, "b1-echo had {long} long connections: {after:?}");
    until("b1's short connections gone", || Ok((operator.backend("b1")?.active_connections == 0).then_some(())))?;

    operator.order("enable b1 b1-echo")?;
    let answers = get_many(&lab.client(), WEB, 60)?;
    ensure!(answers.keys().eq(["b1", "b2"]), "with b1 enabled again: {answers:?}");
    newcomers.finish()?;
    load.finish_unharmed(&lab)?;
    operator.await_balance(0)
}
