//! A back-end server dies and comes back: what it had dies with it, nothing else does, and nothing new goes there.

use anyhow::{Result, ensure};
use shunt_tests::lab::{ECHO, Lab, Shape, UDP_ECHO, WEB};
use shunt_tests::traffic::datagrams::exchange;
use shunt_tests::traffic::http::get_many;
use shunt_tests::traffic::streams::Streams;

const VICTIM: [&str; 3] = ["b2", "b2-echo", "b2-udp"];

pub fn backend_death() -> Result<()> {
    let lab = Lab::up("death", Shape { backends: 3, ..Shape::default() })?;
    let operator = lab.operator();
    let streams = Streams::start(&lab.client(), ECHO, 16)?;
    let doomed = operator.backend("b2-echo")?.active_connections;

    lab.stop_backend(2)?;
    operator.await_state(&VICTIM, "down")?;
    let answers = get_many(&lab.client(), WEB, 90)?;
    ensure!(answers.keys().eq(["b1", "b3"]), "with b2 dead: {answers:?}");
    Streams::start(&lab.client(), ECHO, 12)?.finish()?;
    let tally = exchange(&lab.client(), UDP_ECHO, 12, 5)?;
    ensure!(tally.lost == 0, "with b2 dead: {tally}");

    lab.start_backend(2)?;
    operator.await_state(&VICTIM, "up")?;
    let answers = get_many(&lab.client(), WEB, 90)?;
    ensure!(answers.keys().eq(["b1", "b2", "b3"]), "with b2 back: {answers:?}");
    let cut = streams.finish_each().iter().filter(|result| result.is_err()).count() as u64;
    ensure!(cut == doomed, "{cut} connections were cut, b2 had {doomed}");
    operator.await_balance(0)
}
