//! A switcher that waits sleeps when nothing comes, and has the kernel's receive threads on its CPU, also after an interface
//! was down; at the end the interface is as it was.

use anyhow::{Context, Result, ensure};
use nix::sched::sched_getaffinity;
use nix::unistd::Pid;
use shunt_tests::lab::{Lab, Shape, WEB};
use shunt_tests::namespace::Namespace;
use shunt_tests::supervisor::pid_of;
use shunt_tests::traffic::http::get_many;
use shunt_tests::wait::until;
use std::time::Duration;

/// How long nothing comes but health checks.
const QUIET: Duration = Duration::from_secs(1);
/// Of a CPU, in percent. One that polls takes all of it.
const QUIET_PERCENT: u64 = 30;

pub fn waiting() -> Result<()> {
    let mut lab = Lab::up_patient("wait", Shape { idle: "wait", ..Shape::default() })?;
    let switcher = pid_of(lab.name(), "switcher.0")?;
    get_many(&lab.client(), WEB, 20)?;
    let (priority, policy) = (stat(switcher, 40)?, stat(switcher, 41)?);
    ensure!((priority, policy) == (1, libc::SCHED_FIFO as u64), "priority {priority} by policy {policy}");
    sleeps(switcher)?;

    let before: Vec<Pid> = ["client0", "back0"].map(threads).into_iter().flatten().collect();
    await_pinned(switcher)?;
    for interface in ["client0", "back0"] {
        lab.balancer().ip(&format!("link set dev {interface} down"))?;
        lab.balancer().ip(&format!("link set dev {interface} up"))?;
    }
    ensure!(before.iter().all(|thread| name(*thread).is_none()), "an interface that was down has other threads");
    await_pinned(switcher)?;
    until("answers after the interfaces were down", || Ok(get_many(&lab.client(), WEB, 20).ok()))?;
    ensure!(setting(&lab.balancer(), "threaded")? == "1" && setting(&lab.balancer(), "gro_flush_timeout")? != "0");
    lab.stop_shunt()?;
    for word in ["threaded", "gro_flush_timeout", "napi_defer_hard_irqs"] {
        ensure!(setting(&lab.balancer(), word)? == "0", "{word} was left at {}", setting(&lab.balancer(), word)?);
    }
    lab.start_shunt()
}

/// The socket of an interface that is down, or gone, has an error for good: no reason to stay awake.
pub fn waiting_without_interface() -> Result<()> {
    for port in ["af_xdp", "af_packet"] {
        let lab = Lab::up("gone", Shape { idle: "wait", port, ..Shape::default() })?;
        let switcher = pid_of(lab.name(), "switcher.0")?;
        lab.balancer().ip("link set dev client0 down")?;
        sleeps(switcher).context("client0 is down")?;
        lab.balancer().ip("link set dev client0 up")?;
        until("answers after client0 was down", || Ok(get_many(&lab.client(), WEB, 20).ok()))?;
        lab.balancer().ip("link delete dev client0")?;
        sleeps(switcher).context("client0 is gone")?;
        ensure!(pid_of(lab.name(), "switcher.0")? == switcher, "the switcher was started again");
    }
    Ok(())
}

fn sleeps(switcher: Pid) -> Result<()> {
    let before = ticks(switcher)?;
    std::thread::sleep(QUIET);
    let taken = (ticks(switcher)? - before) * 100 / ticks_a_second()?;
    ensure!(taken <= QUIET_PERCENT, "a switcher that waits took {taken} % of a CPU");
    Ok(())
}

/// Until every receive thread may run on the switcher's CPU only, and has short turns there.
fn await_pinned(switcher: Pid) -> Result<()> {
    let cpus = sched_getaffinity(switcher)?;
    for interface in ["client0", "back0"] {
        until(&format!("receive threads of {interface} on the switcher's CPU"), || {
            let threads = threads(interface);
            let is_pinned = |thread: &Pid| sched_getaffinity(*thread).is_ok_and(|set| set == cpus);
            let is_ready = |thread: &Pid| is_pinned(thread) && has_short_turns(*thread);
            Ok((!threads.is_empty() && threads.iter().all(is_ready)).then_some(()))
        })?;
    }
    Ok(())
}

/// Turns of 100 us, where the kernel tells (6.12 and later, with its scheduler's debugging).
fn has_short_turns(thread: Pid) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{thread}/sched")).unwrap_or_default();
    let slice = text.lines().find_map(|line| line.strip_prefix("se.slice")?.split(':').nth(1)?.trim().parse().ok());
    slice.is_none_or(|ns: u64| ns == 100_000)
}

/// The kernel's receive threads of interfaces with this name.
fn threads(interface: &str) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw);
    pids.filter(|pid| name(*pid).is_some_and(|name| name.starts_with(&format!("napi/{interface}-")))).collect()
}

fn name(pid: Pid) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()
}

fn setting(namespace: &Namespace, word: &str) -> Result<String> {
    let path = format!("/sys/class/net/client0/{word}");
    let output = namespace.command("cat").arg(path).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// CPU time that a process has taken.
fn ticks(pid: Pid) -> Result<u64> {
    Ok(stat(pid, 14)? + stat(pid, 15)?)
}

/// A field of proc_pid_stat(5), which counts them from 1.
fn stat(pid: Pid, field: usize) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = text.rsplit(") ").next().context("its name ends")?;
    Ok(after_name.split(' ').nth(field - 3).context("fewer fields")?.parse()?)
}

fn ticks_a_second() -> Result<u64> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("CLK_TCK")?;
    Ok(u64::try_from(ticks)?)
}
