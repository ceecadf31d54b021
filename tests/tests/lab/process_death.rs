//! Each process killed with -9 under load and started again by the supervisor: every TCP connection lives on and ends
//! whole, no request fails, and the UDP datagrams lost are counted and said.

use anyhow::{Context, Result, ensure};
use shunt_protocol::port::BATCH;
use shunt_tests::lab::{Lab, Shape, UDP_ECHO};
use shunt_tests::runner::Test;
use shunt_tests::traffic::datagrams::Datagrams;
use shunt_tests::traffic::load::Load;
use std::time::Duration;

/// How long there is traffic before a kill and after the successor runs.
const CALM: Duration = Duration::from_millis(300);
const UDP_FLOWS: u64 = 4;

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for port in ["af_xdp", "af_packet"] {
        for switchers in [1, 2] {
            let shape = Shape { port, switchers, ..Shape::default() };
            tests.push(Test::new(format!("process_death_{port}_{switchers}"), move || process_death(shape)));
        }
    }
    let shape = Shape { idle: "wait", ..Shape::default() };
    tests.push(Test::new("process_death_af_xdp_1_wait", move || process_death(shape)));
    tests
}

fn process_death(shape: Shape) -> Result<()> {
    let lab = Lab::up_patient("kill", shape)?;
    let last = format!("switcher.{}", shape.switchers - 1);
    let load = Load::start(&lab)?;
    let mut switchers_killed = 0;
    let victims: [&[&str]; 6] =
        [&["keeper"], &["control"], &["ifdaemon"], &[&last], &["keeper", &last], &["control", "switcher.0"]];
    for victims in victims {
        kill_under_load(&lab, victims).with_context(|| format!("{victims:?} killed"))?;
        switchers_killed += victims.iter().filter(|name| name.starts_with("switcher")).count();
    }
    let (whole, http) = load.finish_unharmed(&lab)?;
    println!(
        "  {} long connections whole, {} KiB; {} requests, none failed",
        whole.connections,
        whole.bytes / 1024,
        http.answered()
    );
    // What became of the batch in hand, nobody could write down.
    lab.operator().await_balance((switchers_killed * BATCH) as i64)
}

fn kill_under_load(lab: &Lab, victims: &[&str]) -> Result<()> {
    let datagrams = Datagrams::start(&lab.client(), UDP_ECHO, UDP_FLOWS)?;
    std::thread::sleep(CALM);
    lab.kill(victims)?;
    std::thread::sleep(CALM);
    let tally = datagrams.finish()?;
    println!("  {} killed: {tally}", victims.join(" and "));
    ensure!(tally.sent > 0 && tally.lost < tally.sent, "nothing came through: {tally}");
    ensure!(tally.duplicated + tally.foreign == 0, "{tally}");
    Ok(())
}
