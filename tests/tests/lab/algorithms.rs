//! What a new connection's backend is chosen by, over two switchers: exact where all counts are shared, one backend where
//! the client's address decides, by its hash or by a rule.

use anyhow::{Result, ensure};
use shunt_tests::lab::{ECHO, Lab, Shape};
use shunt_tests::traffic::streams::Streams;

pub fn algorithms() -> Result<()> {
    let lab = Lab::up_patient("algorithms", Shape { switchers: 2, ..Shape::default() })?;
    let plain = lab.configuration()?;
    for algorithm in ["least-connections", "lightest", "latency"] {
        lab.reload(&plain.with("mode = \"nat\"\n", &format!("mode = \"nat\"\nalgorithm = \"{algorithm}\"\n"))?)?;
        // The second time, from the same count only if the ends of the first were counted.
        for connections in [24, 12] {
            let half = connections / 2;
            let opened = open(&lab, connections)?;
            ensure!(opened == [half, half], "{algorithm}: {connections} connections went {opened:?}");
        }
    }
    lab.reload(&plain.with("mode = \"nat\"\n", "mode = \"nat\"\nalgorithm = \"source-hash\"\n")?)?;
    let opened = open(&lab, 16)?;
    ensure!(opened.contains(&16), "source-hash: one client's 16 connections went {opened:?}");
    let first = "[[service.backend]]\nname = \"b1-echo\"";
    let rule = "[[service.rule]]\nclients = [\"198.18.0.0/24\"]\nbackends = [\"b2-echo\"]\n\n";
    lab.reload(&plain.with(first, &format!("{rule}{first}"))?)?;
    let opened = open(&lab, 16)?;
    ensure!(opened == [0, 16], "clients that a rule sends to b2-echo went {opened:?}");
    lab.operator().await_balance(0)
}

/// Opens so many connections, one after the other, lets them live together, and ends them. How many went where.
fn open(lab: &Lab, connections: u64) -> Result<[u64; 2]> {
    let count = || -> Result<[u64; 2]> {
        let opened = |name| lab.operator().backend(name).map(|backend| backend.opened);
        Ok([opened("b1-echo")?, opened("b2-echo")?])
    };
    let before = count()?;
    let streams: Vec<Streams> =
        (0..connections).map(|_| Streams::start(&lab.client(), ECHO, 1)).collect::<Result<_>>()?;
    let after = count()?;
    for stream in streams {
        stream.finish()?;
    }
    Ok([after[0] - before[0], after[1] - before[1]])
}
