//! `shunt status` for monitoring: its exit status and its problems, while things go wrong and after they are mended.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use shunt_tests::lab::{Lab, Shape, WEB};
use shunt_tests::supervisor::pid_of;
use shunt_tests::traffic::http::get;
use shunt_tests::wait::until;
use std::net::TcpStream;
use std::time::Duration;

const HEALTHY: i32 = 0;
const DEGRADED: i32 = 1;
const NOT_SERVING: i32 = 2;

pub fn problems() -> Result<()> {
    let mut lab = Lab::up("problems", Shape::default())?;
    is_told(&lab, HEALTHY, None)?;
    is_told(&lab, HEALTHY, Some(("interfaces_unseen", "network namespace")))?;
    stopped_processes(&lab)?;
    dead_processes(&lab)?;
    dead_backends(&lab)?;
    bad_file(&lab)?;
    lab.stop_shunt()?;
    is_told(&lab, NOT_SERVING, Some(("not_running", &format!("instance {}", lab.name()))))?;
    lab.start_shunt()?;
    is_told(&lab, HEALTHY, None)
}

/// Waits for this exit status, and for this problem, by code and object, both in text and in JSON.
fn is_told(lab: &Lab, expected: i32, problem: Option<(&str, &str)>) -> Result<()> {
    let what = format!("exit status {expected} and {problem:?}");
    let told = until(&what, || {
        let output = lab.operator().try_order("status")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let in_text = problem.is_none_or(|(code, object)| text.contains(&format!("\n! {code}: {object}: ")))
            || problem.is_some_and(|(code, object)| text.starts_with(&format!("! {code}: {object}: ")));
        Ok((output.status.code() == Some(expected) && in_text && in_json(lab, problem)?).then_some(()))
    });
    told.with_context(|| format!("{:?}", lab.operator().try_order("status --json")))
}

/// Whether the problem is among those in JSON; without one, whether there are none but the notice about the view from outside.
fn in_json(lab: &Lab, problem: Option<(&str, &str)>) -> Result<bool> {
    let json: serde_json::Value = serde_json::from_slice(&lab.operator().try_order("status --json")?.stdout)?;
    let problems = json["problems"].as_array().context("problems is a list")?;
    Ok(match problem {
        Some((code, object)) => problems.iter().any(|it| it["code"] == code && it["object"] == object),
        // The laboratory's operator is outside of Shunt's network namespace.
        None => problems.iter().all(|it| it["code"] == "interfaces_unseen"),
    })
}

/// One that stands still, as under SIGSTOP, is found by its heartbeat.
fn stopped_processes(lab: &Lab) -> Result<()> {
    let processes = [
        ("keeper", "keeper", DEGRADED),
        ("control", "control", DEGRADED),
        ("switcher.0", "switcher 0", NOT_SERVING),
        ("ifdaemon", "ifdaemon", NOT_SERVING),
    ];
    for (process, object, expected) in processes {
        let pid = pid_of(lab.name(), process)?;
        kill(pid, Signal::SIGSTOP)?;
        let told = is_told(lab, expected, Some(("process_silent", object)));
        kill(pid, Signal::SIGCONT)?;
        told?;
        is_told(lab, HEALTHY, None).with_context(|| format!("{process} goes on"))?;
    }
    Ok(())
}

/// With the supervisor stopped, nobody starts them again.
fn dead_processes(lab: &Lab) -> Result<()> {
    let supervisor = pid_of(lab.name(), "supervisor")?;
    kill(supervisor, Signal::SIGSTOP)?;
    let told = each_dead(lab);
    kill(supervisor, Signal::SIGCONT)?;
    told?;
    is_told(lab, HEALTHY, None).context("all were started again")
}

fn each_dead(lab: &Lab) -> Result<()> {
    let processes = [
        ("control", "control", DEGRADED),
        ("keeper", "keeper", DEGRADED),
        ("ifdaemon", "ifdaemon", NOT_SERVING),
        ("switcher.0", "switcher 0", NOT_SERVING),
    ];
    for (process, object, expected) in processes {
        kill(pid_of(lab.name(), process)?, Signal::SIGKILL)?;
        is_told(lab, expected, Some(("process_dead", object)))?;
    }
    Ok(())
}

fn dead_backends(lab: &Lab) -> Result<()> {
    lab.stop_backend(1)?;
    is_told(lab, DEGRADED, Some(("backend_down", "backend b1")))?;
    lab.stop_backend(2)?;
    is_told(lab, NOT_SERVING, Some(("service_without_backend", "service web")))?;
    lab.start_backend(1)?;
    lab.start_backend(2)?;
    is_told(lab, HEALTHY, None)
}

fn bad_file(lab: &Lab) -> Result<()> {
    let (good, path) = (lab.configuration()?, lab.configuration_path().display().to_string());
    lab.configure(&good.with("mode = \"nat\"", "mode = \"gnat\"")?)?;
    is_told(lab, DEGRADED, Some(("configuration_refused", &path)))?;
    ensure!(!lab.operator().try_order("reload")?.status.success(), "a bad file was taken");
    is_told(lab, DEGRADED, Some(("reload_refused", &path)))?;
    lab.reload(&good)?;
    is_told(lab, HEALTHY, None)
}

/// Senders with checksum offload on a veth: nothing hangs without a word.
pub fn unfilled_checksums() -> Result<()> {
    for port in ["af_xdp", "af_packet"] {
        let lab = Lab::up("sums", Shape { port, ..Shape::default() })?;
        offload(&lab, "client", "eth0", "on")?;
        hangs(&lab).context("a client's unfilled checksums")?;
        is_told(&lab, HEALTHY, Some(("checksum_unfilled", "interface client0")))?;
        ensure!(lab.operator().order("drops")?.contains("checksum_unfilled"), "not among the drops");
        doctor_tells(&lab)?;
        offload(&lab, "client", "eth0", "off")?;
        until("an answer with filled checksums", || Ok(lab.client().inside(|| get(WEB)).ok()))?;

        // The switch between them would fill in what the back-ends leave to it.
        for (namespace, interface) in [("b1", "eth0"), ("b2", "eth0"), ("switch", "lb")] {
            offload(&lab, namespace, interface, "on")?;
        }
        hangs(&lab).context("a back-end's unfilled checksums")?;
        is_told(&lab, DEGRADED, Some(("checksum_unfilled", "interface back0")))?;
        lab.operator().await_balance(0)?;
    }
    Ok(())
}

/// A new connection isn't answered within the time that the others take many times over.
fn hangs(lab: &Lab) -> Result<()> {
    let answered = lab.client().inside(|| Ok(TcpStream::connect_timeout(&WEB, Duration::from_secs(1)).is_ok()))?;
    ensure!(!answered, "were no obstacle");
    Ok(())
}

fn offload(lab: &Lab, namespace: &str, interface: &str, word: &str) -> Result<()> {
    let namespace = shunt_tests::namespace::Namespace::named(format!("{}-{namespace}", lab.name()));
    let output = namespace.command("ethtool").args(["-K", interface, "tx", word]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn doctor_tells(lab: &Lab) -> Result<()> {
    let mut command = lab.balancer().command(shunt_tests::operator::binaries()?.join("shunt"));
    let output = command.arg("doctor").arg(lab.configuration_path()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let is_told = text.contains("warn  checksums client0: ") && text.contains("ethtool -K PEER tx off");
    ensure!(output.status.success() && is_told, "{text}");
    Ok(())
}
