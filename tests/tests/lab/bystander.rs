//! What isn't Shunt's: a server on the balancer's own address, and the balancer's own connections to a back-end's
//! service port. One connection each lives on while Shunt is started and stopped, and a stop leaves nothing behind.

use anyhow::{Result, ensure};
use shunt_tests::lab::{Lab, Shape, WEB};
use shunt_tests::runner::Test;
use shunt_tests::traffic::bystander::{ADDRESS, Bystander};
use shunt_tests::traffic::http::get_many;
use shunt_tests::traffic::streams::Streams;
use std::net::SocketAddr;

const BACKEND_ECHO: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 1, 11)), 5000);

pub fn tests() -> Vec<Test> {
    let test = |port| {
        let shape = Shape { port, ..Shape::default() };
        Test::new(format!("bystander_{port}"), move || bystander(shape))
    };
    ["af_xdp", "af_packet"].map(test).into()
}

fn bystander(shape: Shape) -> Result<()> {
    let mut lab = Lab::up_patient("bystander", shape)?;
    let _server = Bystander::start(&lab.balancer())?;
    let born_during = Streams::start(&lab.client(), ADDRESS, 2)?;
    ensure!(has_program(&lab)? == (shape.port == "af_xdp"), "an XDP program for {}", shape.port);

    lab.stop_shunt()?;
    ensure!(leftovers(&lab)?.is_empty(), "the stop left {:?}", leftovers(&lab)?);
    let born_before = Streams::start(&lab.client(), ADDRESS, 2)?;
    let own = Streams::start(&lab.balancer(), BACKEND_ECHO, 2)?;

    lab.start_shunt()?;
    get_many(&lab.client(), WEB, 20)?;
    Streams::start(&lab.client(), ADDRESS, 2)?.finish()?;

    lab.stop_shunt()?;
    ensure!(leftovers(&lab)?.is_empty(), "the second stop left {:?}", leftovers(&lab)?);
    for streams in [born_during, born_before, own] {
        streams.finish()?;
    }
    Streams::start(&lab.client(), ADDRESS, 1)?.finish().map(drop)
}

fn has_program(lab: &Lab) -> Result<bool> {
    let links = lab.balancer().ip("link show dev client0")? + &lab.balancer().ip("link show dev back0")?;
    Ok(links.contains("xdp"))
}

/// Memory, files and XDP programs of the laboratory's instance.
fn leftovers(lab: &Lab) -> Result<Vec<String>> {
    let prefix = format!("shunt.{}.", lab.name());
    let memory = std::fs::read_dir("/dev/shm")?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut left: Vec<String> = memory.filter(|name| name.starts_with(&prefix)).collect();
    let folder = format!("/run/shunt/{}", lab.name());
    if std::fs::exists(&folder)? {
        left.push(folder);
    }
    if has_program(lab)? {
        left.push("an XDP program".to_owned());
    }
    Ok(left)
}
