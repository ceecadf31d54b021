//! Every mode over every port, with one switcher and with two: all kinds of traffic arrive, and every frame is accounted
//! for.

use anyhow::{Context, Result, ensure};
use shunt_tests::lab::{CLOSED, ECHO, Lab, Shape, UDP_ECHO, WEB};
use shunt_tests::runner::Test;
use shunt_tests::traffic::datagrams::exchange;
use shunt_tests::traffic::http::get_many;
use shunt_tests::traffic::ping::ping;
use shunt_tests::traffic::streams::Streams;
use std::io::ErrorKind;
use std::net::TcpStream;

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for mode in ["nat", "dsr"] {
        for port in ["af_xdp", "af_packet"] {
            for switchers in [1, 2] {
                let shape = Shape { mode, port, switchers, ..Shape::default() };
                tests.push(Test::new(format!("matrix_{mode}_{port}_{switchers}"), move || carry(shape)));
            }
        }
    }
    for (mode, port, switchers) in [("nat", "af_xdp", 1), ("dsr", "af_xdp", 2), ("nat", "af_packet", 1)] {
        let shape = Shape { mode, port, switchers, idle: "wait", ..Shape::default() };
        tests.push(Test::new(format!("matrix_{mode}_{port}_{switchers}_wait"), move || carry(shape)));
    }
    tests
}

fn carry(shape: Shape) -> Result<()> {
    let lab = Lab::up_patient("matrix", shape)?;
    ports_are_as_asked(&lab)?;
    let streams = Streams::start(&lab.client(), ECHO, 12)?;
    let answers = get_many(&lab.client(), WEB, 60)?;
    ensure!(answers.keys().eq(lab.backends().iter()), "60 requests were answered by {answers:?}");
    let tally = exchange(&lab.client(), UDP_ECHO, 12, 20)?;
    ensure!(tally.lost + tally.duplicated + tally.reordered + tally.foreign == 0, "UDP: {tally}");
    lab.client().inside(|| (0..5).try_for_each(|sequence| ping(CLOSED.ip(), sequence))).context("ping")?;
    closed_port_refuses(&lab)?;
    streams.finish()?;
    all_switchers_worked(&lab)?;
    lab.operator().await_balance(0)
}

fn ports_are_as_asked(lab: &Lab) -> Result<()> {
    let status = lab.operator().status()?;
    let mode = if lab.shape.port == "af_xdp" { "native-copy" } else { "mmap" };
    for interface in ["client0", "back0"] {
        for switcher in 0..lab.shape.switchers {
            let port =
                status.ports.iter().find(|port| port.interface == interface && usize::from(port.switcher) == switcher);
            let port = port.with_context(|| format!("switcher {switcher} has no port on {interface}"))?;
            let mut receiving = port.queues.iter().filter(|queue| queue.receives).peekable();
            ensure!(receiving.peek().is_some(), "no queue receives: {port:?}");
            let threaded = lab.shape.port == "af_xdp" && lab.shape.idle == "wait";
            ensure!(port.queues.iter().all(|queue| queue.threaded == (threaded && queue.receives)), "{port:?}");
            let busy = lab.shape.port == "af_xdp" && spins(lab)? && veth_is_busy_polled()?;
            ensure!(port.queues.iter().all(|queue| queue.busy_polls == (busy && queue.receives)), "{port:?}");
            ensure!(receiving.all(|queue| queue.kind == lab.shape.port && queue.mode == mode), "{port:?}");
        }
    }
    for service in lab.operator().services()? {
        let is_hosts = service.mode == "host";
        ensure!((is_hosts || service.mode == lab.shape.mode) && service.state == "up", "{service:?}");
    }
    Ok(())
}

/// The laboratory's switchers spin while a CPU is left for everything else.
fn spins(lab: &Lab) -> Result<bool> {
    Ok(lab.shape.idle == "auto" && lab.shape.switchers < std::thread::available_parallelism()?.get())
}

/// Up to Linux 6.12.
fn veth_is_busy_polled() -> Result<bool> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    Ok((numbers.next(), numbers.next()) < (Some(6), Some(13)))
}

/// No service uses the port: a TCP reset (Fig. 6).
fn closed_port_refuses(lab: &Lab) -> Result<()> {
    lab.client().inside(|| {
        let error = TcpStream::connect(CLOSED).err().context("a closed port took a connection")?;
        ensure!(error.kind() == ErrorKind::ConnectionRefused, "a closed port: {error}");
        Ok(())
    })
}

fn all_switchers_worked(lab: &Lab) -> Result<()> {
    let ports = lab.operator().status()?.ports;
    for switcher in 0..lab.shape.switchers {
        let own = ports.iter().filter(|port| usize::from(port.switcher) == switcher);
        ensure!(own.map(|port| port.received).sum::<u64>() > 0, "switcher {switcher} received nothing: {ports:?}");
    }
    Ok(())
}
