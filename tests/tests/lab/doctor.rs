//! `shunt doctor` on a healthy machine: nothing is wrong, before Shunt is started and while it runs, whichever of the
//! example configurations it is asked about.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use shunt_tests::configuration::Configuration;
use shunt_tests::lab::{Lab, Shape};
use shunt_tests::operator::{binaries, root};

/// What depends on the machine that runs the test, and not on Shunt or its configuration.
const OF_THE_MACHINE: &[&str] = &["kernel", "huge-pages", "irqbalance", "isolation", "governor"];

#[derive(Deserialize)]
struct Report {
    findings: Vec<Finding>,
}

#[derive(Debug, Deserialize)]
struct Finding {
    level: String,
    check: String,
}

pub fn doctor() -> Result<()> {
    let mut lab = Lab::up("doctor", Shape { switchers: 2, ..Shape::default() })?;
    let own = lab.configuration()?;
    let with_packet_copies = own.with("port = \"af_xdp\"", "port = \"af_packet\"")?;
    let mut configurations = vec![("the laboratory's own".to_owned(), own), ("AF_PACKET".into(), with_packet_copies)];
    for name in ["minimal", "nat", "dsr", "host", "inner", "feedback"] {
        configurations.push((name.to_owned(), example(&lab, name)?));
    }
    for (name, configuration) in &configurations {
        lab.stop_shunt()?;
        lab.configure(configuration)?;
        healthy(&lab).with_context(|| format!("{name}, before the start"))?;
        lab.start_shunt().with_context(|| name.clone())?;
        healthy(&lab).with_context(|| format!("{name}, while it runs"))?;
    }
    address_elsewhere(&lab)
}

/// An example, for the interfaces and CPUs that the laboratory has.
fn example(lab: &Lab, name: &str) -> Result<Configuration> {
    let text = std::fs::read_to_string(root().join(format!("deploy/examples/{name}.toml")))?;
    let text: String =
        text.lines().filter(|line| !line.starts_with("instance")).map(|line| line.to_owned() + "\n").collect();
    let text = text.replace("cpus = [1]", "cpus = [0]").replace("cpus = [2]", "cpus = [0]");
    let text = text.replace("cpus = [2, 3]", "cpus = [0, 1]").replace("idle = \"spin\"", "idle = \"yield\"");
    // An only interface is to lead to the back-ends, too.
    let text = if text.contains("\"eth1\"") { text } else { text.replace("\"eth0\"", "\"back0\"") };
    let text = text.replace("\"eth0\"", "\"client0\"").replace("\"eth1\"", "\"back0\"");
    let keys = lab.folder();
    for server in ["server-1", "server-2"] {
        std::fs::write(keys.join(server), "01".repeat(32))?;
        std::fs::set_permissions(keys.join(server), std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    let text = text.replace("/etc/shunt/keys", &keys.display().to_string());
    Ok(Configuration(format!("instance = \"{}\"\n{text}", lab.name())))
}

fn examine(lab: &Lab) -> Result<(bool, Vec<Finding>)> {
    let mut command = lab.balancer().command(binaries()?.join("shunt"));
    let output = command.arg("doctor").arg(lab.configuration_path()).arg("--json").output()?;
    let text = String::from_utf8(output.stdout)?;
    let report: Report = serde_json::from_str(&text).with_context(|| format!("shunt doctor --json printed {text}"))?;
    Ok((output.status.success(), report.findings))
}

fn healthy(lab: &Lab) -> Result<()> {
    let (success, findings) = examine(lab)?;
    let wrong: Vec<_> = findings
        .iter()
        .filter(|finding| finding.level != "ok" && !OF_THE_MACHINE.contains(&finding.check.as_str()))
        .collect();
    ensure!(success && wrong.is_empty(), "{wrong:?}");
    Ok(())
}

/// The service's address on an interface of the box: that is in the way.
fn address_elsewhere(lab: &Lab) -> Result<()> {
    lab.balancer().ip("address add 198.18.0.100/32 dev lo")?;
    let (success, findings) = examine(lab)?;
    let is_told = findings.iter().any(|finding| finding.level == "fail" && finding.check == "service-address");
    ensure!(!success && is_told, "{findings:?}");
    Ok(())
}
