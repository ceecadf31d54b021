//! The balancing benchmark's own programs: the pool answers, counts and refuses as it says, and the load counts right.

use anyhow::{Context, Result, ensure};
use shunt_tests::namespace::Namespace;
use shunt_tests::pool::summary::Summary;
use shunt_tests::wait::until;
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

/// A pool of one back-end in a namespace of its own, with nothing between it and the load.
struct Pool {
    name: String,
    server: Option<Child>,
}

impl Pool {
    fn start() -> Result<Self> {
        let mut pool = Self { name: format!("balance-pool-{}", std::process::id()), server: None };
        let made = Command::new("ip").args(["netns", "add", &pool.name]).status()?;
        ensure!(made.success(), "ip netns add {}", pool.name);
        pool.namespace().ip("link set lo up")?;
        pool.namespace().ip("address add 198.18.1.11/32 dev lo")?;
        let mut server = pool.namespace().command(env!("CARGO_BIN_EXE_serve-load"));
        server.args(["--backend", "b1=198.18.1.11,4,2", "--queue", "8"]).stdout(Stdio::null());
        pool.server = Some(server.spawn().context("serve-load")?);
        until("the pool's metrics", || Ok(pool.metric("load_in_flight").ok()))?;
        Ok(pool)
    }

    fn namespace(&self) -> Namespace {
        Namespace::named(&self.name)
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut curl = self.namespace().command("curl");
        let output = curl.args(["-sf", &format!("http://198.18.1.11:9100/{path}")]).output()?;
        ensure!(output.status.success(), "no answer to /{path}");
        Ok(String::from_utf8(output.stdout)?)
    }

    fn metric(&self, name: &str) -> Result<u64> {
        let text = self.get("metrics")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no {name} in {text}"))?.parse()?)
    }

    /// A second of load with nothing before it.
    fn load(&self) -> Result<Summary> {
        let mut load = self.namespace().command(env!("CARGO_BIN_EXE_generate-load"));
        load.args(["--target", "198.18.1.11:80", "--rate", "200", "--warm-up", "0", "--seconds", "1"]);
        let output = load.output()?;
        ensure!(output.status.success(), "generate-load: {}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

pub fn pool() -> Result<()> {
    let pool = Pool::start()?;
    let easy = pool.load()?;
    ensure!((100..300).contains(&easy.requests), "200 a second for a second: {easy:?}");
    ensure!(easy.errors == 0 && easy.answers == BTreeMap::from([("b1".to_owned(), easy.answered)]), "{easy:?}");
    ensure!(pool.metric("load_requests_total")? == easy.answered, "the pool counts otherwise than {easy:?}");
    ensure!(pool.metric("load_in_flight")? == 0, "all is answered");

    // Four workers of 200 ms each can't do 200 a second: eight may wait, the others are refused.
    pool.get("factor/100")?;
    let overload = pool.load()?;
    ensure!(overload.requests == easy.requests, "the schedule isn't the load's to change: {easy:?}, then {overload:?}");
    ensure!(overload.errors > 0 && overload.errors == pool.metric("load_refused_total")?, "{overload:?}");
    ensure!(pool.metric("load_requests_total")? == easy.answered + overload.answered, "{overload:?}");

    pool.get("factor/1")?;
    ensure!(pool.get("factor/-1").is_err() && pool.get("nothing").is_err(), "nonsense is refused");
    Ok(())
}
