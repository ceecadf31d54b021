//! Shares follow load: of three equal weights one belongs to a server that is four times slower, and every algorithm that
//! listens to load gives it less than a share by weight.

use anyhow::{Context, Result, ensure};
use shunt_tests::configuration::Configuration;
use shunt_tests::lab::{Lab, Shape};
use shunt_tests::operator::binaries;
use shunt_tests::pool::summary::Summary;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Mean time of a request in milliseconds; four workers each.
const SERVERS: [(&str, u32); 3] = [("p1", 80), ("p2", 20), ("p3", 20)];
const SLOW: &str = "p1";
/// The slow one has as much as it can do when all get the same.
const RATE: &str = "150";
/// Between the third that it gets by weight, and the most that the mildest algorithm (the lighter of two) leaves it.
const FEWER: f64 = 0.275;

/// Programs on the servers, ended with the value.
#[derive(Default)]
pub struct Servers(Vec<Child>);

impl Servers {
    fn start(lab: &Lab, folder: &Path) -> Result<Self> {
        let mut servers = Self::default();
        for (number, (name, mean_ms)) in (1..).zip(SERVERS) {
            let address = format!("198.18.1.{}", 10 + number);
            let mut pool = lab.server(number).command(env!("CARGO_BIN_EXE_serve-load"));
            pool.args(["--port", "8000", "--backend", &format!("{name}={address},4,{mean_ms}")]);
            servers.spawn(pool)?;
            let key = folder.join(name);
            fs::write(&key, format!("{number}").repeat(64))?;
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
            let settings = folder.join(format!("{name}.toml"));
            fs::write(&settings, agent_settings(name, &address, &key))?;
            let mut agent = lab.server(number).command(binaries()?.join("shunt-agent"));
            agent.arg("--config").arg(settings);
            servers.spawn(agent)?;
        }
        Ok(servers)
    }

    /// Adds a program.
    pub fn spawn(&mut self, mut command: Command) -> Result<()> {
        let child = command.stdout(Stdio::null()).spawn().with_context(|| format!("{command:?}"))?;
        self.0.push(child);
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn agent_settings(name: &str, address: &str, key: &Path) -> String {
    format!(
        "name = {name:?}\ncontrol = \"198.18.1.1:7946\"\nkey_file = {key:?}\nperiod_ms = 50\n\
         [[backend]]\nname = {name:?}\nport = 8000\n\
         [backend.prometheus]\naddress = \"{address}:9100\"\nin_flight = \"load_in_flight\"\n\
         requests = \"load_requests_total\"\nexecution = \"load_request_seconds\"\n"
    )
}

/// The laboratory's configuration with a service of the simulated servers.
fn configuration(lab: &Lab, folder: &Path, algorithm: &str) -> Result<Configuration> {
    let mut text = lab.configuration()?.0;
    write!(
        text,
        "\n[feedback]\nlisten = \"198.18.1.1:7946\"\nsmoothing_ms = 200\nslew_permille_per_s = 2000\n\
         [[service]]\nname = \"pool\"\nprotocol = \"tcp\"\naddress = \"198.18.0.100:8000\"\nmode = \"nat\"\n\
         algorithm = {algorithm:?}\n[service.health]\nkind = \"none\"\n"
    )?;
    for (number, (name, _)) in (1..).zip(SERVERS) {
        writeln!(text, "[[service.backend]]\nname = {name:?}\naddress = \"198.18.1.{}:8000\"", 10 + number)?;
    }
    for (name, _) in SERVERS {
        writeln!(text, "[[agent]]\nname = {name:?}\nkey_file = {:?}\nbackends = [{name:?}]", folder.join(name))?;
    }
    Ok(Configuration(text))
}

/// The slow server's part of the answers and how many requests failed, after the shares have had time to settle.
fn share_of_the_slow(lab: &Lab) -> Result<(f64, u64)> {
    let mut load = lab.client().command(env!("CARGO_BIN_EXE_generate-load"));
    load.args(["--target", "198.18.0.100:8000", "--rate", RATE, "--warm-up", "4", "--seconds", "6"]);
    let output = load.output()?;
    ensure!(output.status.success(), "generate-load: {}", String::from_utf8_lossy(&output.stderr));
    let summary: Summary = serde_json::from_slice(&output.stdout)?;
    ensure!(summary.answered > 0, "{summary:?}");
    // Who is quick to see that two servers are enough gives the third nothing.
    let slow = summary.answers.get(SLOW).copied().unwrap_or(0);
    Ok((slow as f64 / summary.answered as f64, summary.errors))
}

pub fn follow() -> Result<()> {
    let lab = Lab::up_patient("follow", Shape { backends: SERVERS.len(), ..Shape::default() })?;
    let folder = tempfile::tempdir()?;
    let plain = lab.configuration()?;
    let _servers = Servers::start(&lab, folder.path())?;
    for algorithm in ["static", "even", "lightest", "least-connections", "latency"] {
        lab.configure(&plain)?;
        lab.reload(&configuration(&lab, folder.path(), algorithm)?)?;
        let (share, errors) = share_of_the_slow(&lab).with_context(|| algorithm.to_owned())?;
        println!("  {algorithm}: {:.0} % to the slow server", 100.0 * share);
        let follows = algorithm != "static";
        ensure!((share < FEWER) == follows, "{algorithm}: the slow server got {:.1} %", 100.0 * share);
        ensure!(errors == 0 || !follows, "{algorithm}: {errors} requests failed");
    }
    Ok(())
}
