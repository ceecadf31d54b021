//! Starts that must be refused, each with a sentence that names what is wrong, while a running Shunt goes on.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use shunt_tests::configuration::Configuration;
use shunt_tests::lab::{Lab, Shape};
use shunt_tests::operator::{Operator, binaries};
use shunt_tests::supervisor::{Supervisor, pid_of, start_refused};
use shunt_tests::traffic::load::Load;
use shunt_tests::wait::until;
use std::os::unix::fs::FileExt;
use std::process::Output;

/// EX_CONFIG: starting again would change nothing.
const REFUSED: i32 = 78;
/// Offset of the layout version in a region's header.
const VERSION_OFFSET: u64 = 8;

pub fn bad_start() -> Result<()> {
    let lab = Lab::up_patient("bad", Shape::default())?;
    let load = Load::start(&lab)?;
    second_start(&lab).context("a second start")?;
    same_interface(&lab).context("another instance on the same interface")?;
    same_interface_without(&lab, &["keeper"]).context("the same while the keeper is dead")?;
    same_address(&lab).context("another instance with the same service address")?;
    other_configurations(&lab)?;
    without_root(&lab).context("not root")?;
    memory_of_another_version(&lab).context("another version's memory")?;
    load.finish_unharmed(&lab)?;
    same_interface_without(&lab, &["keeper", "switcher.0"]).context("the same while only control lives")?;
    lab.operator().await_balance(shunt_protocol::port::BATCH as i64)
}

/// Refused, and every one of these words is in what was said.
fn refused(output: &Output, words: &[&str]) -> Result<()> {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(!output.status.success(), "was not refused: {text}");
    let missing: Vec<_> = words.iter().filter(|word| !text.contains(**word)).collect();
    ensure!(missing.is_empty(), "doesn't say {missing:?}: {text}");
    Ok(())
}

fn second_start(lab: &Lab) -> Result<()> {
    let instance = lab.name().to_owned();
    let supervisor = pid_of(lab.name(), "supervisor")?.to_string();
    let output = start_refused(&lab.balancer(), &lab.configuration_path())?;
    refused(&output, &[&instance, "already has a supervisor", &supervisor])?;
    for process in ["keeper", "control"] {
        let pid = pid_of(lab.name(), process)?.to_string();
        let mut command = lab.balancer().command(binaries()?.join(format!("shunt-{process}")));
        let output = command.arg("--config").arg(lab.configuration_path()).output()?;
        refused(&output, &[&pid]).with_context(|| format!("a second {process}"))?;
    }
    let mut command = lab.balancer().command(binaries()?.join("shunt-switcher"));
    let output = command.args(["--instance", lab.name(), "--number", "0"]).output()?;
    refused(&output, &[&pid_of(lab.name(), "switcher.0")?.to_string()]).context("a second switcher 0")
}

/// The name of another instance, and the laboratory's configuration under it.
fn another(lab: &Lab) -> Result<(String, Configuration)> {
    let other = format!("{}-x", lab.name());
    let (from, to) = (format!("instance = \"{}\"", lab.name()), format!("instance = \"{other}\""));
    Ok((other, lab.configuration()?.with(&from, &to)?))
}

/// It would answer ARP for the same addresses, by AF_PACKET where the queues are taken.
fn same_interface(lab: &Lab) -> Result<()> {
    let (_, same) = another(lab)?;
    let keeper = format!("instance \"{}\"", lab.name());
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("shunt.toml");
    for port in ["af_xdp", "af_packet", "auto"] {
        std::fs::write(&path, same.with("port = \"af_xdp\"", &format!("port = \"{port}\""))?.0)?;
        let output = start_refused(&lab.balancer(), &path)?;
        refused(&output, &[&keeper, "interface client0 is used", "interface back0 is used", "shunt0 is the device"])?;
        ensure!(output.status.code() == Some(REFUSED), "{port}: {}", output.status);
    }
    Ok(())
}

/// Switchers still have the queues, and a supervisor whose control lives starts the others again.
fn same_interface_without(lab: &Lab, dead: &[&str]) -> Result<()> {
    let supervisor = pid_of(lab.name(), "supervisor")?;
    kill(supervisor, Signal::SIGSTOP)?;
    for process in dead {
        kill(pid_of(lab.name(), process)?, Signal::SIGKILL)?;
    }
    let told = same_interface(lab);
    kill(supervisor, Signal::SIGCONT)?;
    told?;
    lab.await_running()
}

/// On an interface of its own another instance runs, but not with an address that the first one serves.
fn same_address(lab: &Lab) -> Result<()> {
    let (other, _) = another(lab)?;
    lab.balancer().ip("link add other0 type veth peer name other1")?;
    for interface in ["other0", "other1"] {
        lab.balancer().ip(&format!("link set {interface} up"))?;
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("shunt.toml");
    let configure = |address: &str| {
        let text = format!(
            "instance = \"{other}\"\n[switchers]\ncpus = [0]\nidle = \"wait\"\n[limits]\nconnections = 1024\n\
             [[interface]]\nname = \"other0\"\n[[service]]\nname = \"web\"\naddress = \"{address}:99\"\n\
             protocol = \"tcp\"\nmode = \"nat\"\nbackend = [{{ name = \"b\", address = \"198.18.9.9:80\" }}]\n"
        );
        std::fs::write(&path, text)
    };
    let words = ["address 198.18.0.100 is served by instance", lab.name()];
    configure("198.18.0.100")?;
    let output = start_refused(&lab.balancer(), &path)?;
    refused(&output, &words)?;
    ensure!(output.status.code() == Some(REFUSED), "{}", output.status);

    configure("198.18.0.200")?;
    let log = std::fs::File::create(folder.path().join("log"))?;
    let supervisor = Supervisor::start(&lab.balancer(), &path, log)?;
    let operator = Operator::of(&other);
    let published = until("the other instance", || Ok(operator.status().ok().filter(|status| status.epoch > 0)));
    let reloaded = configure("198.18.0.100").map(|()| operator.try_order("reload"));
    let restarted = kill_control(&other, &operator);
    supervisor.stop()?;
    published.with_context(|| std::fs::read_to_string(folder.path().join("log")).unwrap_or_default())?;
    refused(&reloaded??, &words).context("a reload")?;
    restarted.context("a restart of control")
}

/// The next control refuses the file too, and goes on by what it accepted before.
fn kill_control(instance: &str, operator: &Operator) -> Result<()> {
    let before = pid_of(instance, "control")?;
    kill(before, Signal::SIGKILL)?;
    let words = ["reload_refused", "address 198.18.0.100 is served by instance"];
    until("a control that refuses the file", || {
        let is_another = pid_of(instance, "control").is_ok_and(|pid| pid != before);
        let text = String::from_utf8_lossy(&operator.try_order("status")?.stdout).into_owned();
        Ok((is_another && words.iter().all(|word| text.contains(word))).then_some(()))
    })?;
    ensure!(!operator.order("services")?.contains("198.18.0.100"), "the address is served");
    Ok(())
}

/// Another instance in the same namespace, with something in its configuration that this machine can't do.
fn other_configurations(lab: &Lab) -> Result<()> {
    let (other, good) = another(lab)?;
    let cases: [(&str, &str, &[&str]); 3] = [
        ("\"client0\"", "\"nosuch0\"", &["shunt.toml:", "interface.nosuch0: there is no Ethernet interface"]),
        ("198.18.0.100", "198.18.0.1", &["shunt.toml:", ".address: 198.18.0.1 is an address of this machine"]),
        ("mode = \"nat\"", "mode = \"gnat\"", &["shunt.toml:", "mode", "gnat"]),
    ];
    let folder = tempfile::tempdir()?;
    for (from, to, words) in cases {
        let path = folder.path().join("shunt.toml");
        std::fs::write(&path, good.with(from, to)?.0)?;
        refused(&start_refused(&lab.balancer(), &path)?, words).with_context(|| format!("{to} for {from}"))?;
        let made = std::fs::read_dir("/dev/shm")?
            .flatten()
            .find(|file| file.file_name().to_string_lossy().starts_with(&format!("shunt.{other}.")));
        ensure!(made.is_none(), "{to} for {from} was refused after {made:?} had been made");
        ensure!(!std::fs::exists(format!("/run/shunt/{other}"))?, "{to} for {from} left /run/shunt/{other}");
    }
    Ok(())
}

fn without_root(lab: &Lab) -> Result<()> {
    // Copied to where an ordinary user can read them.
    let folder = tempfile::tempdir_in("/run")?;
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let (keeper, configuration) = (folder.path().join("shunt-keeper"), folder.path().join("shunt.toml"));
    std::fs::copy(binaries()?.join("shunt-keeper"), &keeper)?;
    std::fs::copy(lab.configuration_path(), &configuration)?;
    let mut command = lab.balancer().command("setpriv");
    command.args(["--reuid", "nobody", "--clear-groups"]).arg(&keeper).arg("--config").arg(&configuration);
    refused(&command.output()?, &["must run as root"])
}

/// `shunt` and a switcher that starts name the field; once the memory is as it was, the switcher serves again.
fn memory_of_another_version(lab: &Lab) -> Result<()> {
    let path = format!("/dev/shm/shunt.{}.control", lab.name());
    let memory = std::fs::File::options().read(true).write(true).open(&path)?;
    let mut version = [0; 8];
    memory.read_exact_at(&mut version, VERSION_OFFSET)?;
    memory.write_all_at(&(u64::from_ne_bytes(version) + 1).to_ne_bytes(), VERSION_OFFSET)?;
    let told = tell_of_version(lab, &path);
    memory.write_all_at(&version, VERSION_OFFSET)?;
    told?;
    lab.await_running()
}

fn tell_of_version(lab: &Lab, path: &str) -> Result<()> {
    refused(&lab.operator().try_order("status")?, &[path, "layout version"])?;
    let said = lab.log()?.matches("layout version").count();
    kill(pid_of(lab.name(), "switcher.0")?, Signal::SIGKILL)?;
    until("a switcher that names the layout version", || {
        Ok((lab.log()?.matches("layout version").count() > said).then_some(()))
    })
}
