//! Checks that switchers get the CPUs they are pinned to, and exclusively.

use super::files::{Files, cpu_list};
use super::finding::Finding;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use shunt_config::{Config, Idle};

/// Runs the checks.
pub fn examine(files: &Files, config: Option<&Config>) -> Vec<Finding> {
    let mut findings = vec![balancer(files)];
    match config.map(|config| (config, config.switchers.cpus.choose())) {
        None => findings.push(isolation_of_machine(files)),
        Some((_, Err(error))) => findings.push(Finding::fail("cpu", error.to_string(), "change [switchers]")),
        Some((config, Ok(cpus))) => {
            findings.extend(cpus.iter().flat_map(|cpu| examine_one(files, *cpu, config.switchers.idle)));
        }
    }
    findings
}

fn examine_one(files: &Files, cpu: u32, idle: Idle) -> Vec<Finding> {
    let online = cpu_list(&files.text("sys/devices/system/cpu/online").unwrap_or_default());
    if !online.contains(&cpu) {
        let text = format!("there is none of this number; online are {online:?}");
        return vec![Finding::fail("cpu", text, "name others in switchers.cpus").of(cpu.to_string())];
    }
    if !can_pin(cpu) {
        let mend = "widen the cpuset of the container or service, or name others in switchers.cpus";
        return vec![Finding::fail("cpu", "a process can't be pinned to it", mend).of(cpu.to_string())];
    }
    let mut findings = vec![Finding::ok("cpu", "a process can be pinned to it"), isolation(files, cpu, idle)];
    findings.extend(governor(files, cpu));
    findings.into_iter().map(|finding| finding.of(cpu.to_string())).collect()
}

/// Tries to pin a thread: neither this process's affinity nor a file shows what a cpuset allows.
fn can_pin(cpu: u32) -> bool {
    let pin = move || {
        let mut set = CpuSet::new();
        set.set(cpu as usize).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)).is_ok()
    };
    std::thread::spawn(pin).join().unwrap_or(false)
}

fn kernel_list(files: &Files, name: &str) -> Vec<u32> {
    cpu_list(&files.text(&format!("sys/devices/system/cpu/{name}")).unwrap_or_default())
}

fn isolation(files: &Files, cpu: u32, idle: Idle) -> Finding {
    const CHECK: &str = "isolation";
    let isolated = kernel_list(files, "isolated").contains(&cpu);
    let tickless = kernel_list(files, "nohz_full").contains(&cpu);
    let mend = format!("boot with isolcpus={cpu} nohz_full={cpu} rcu_nocbs={cpu}");
    match (isolated, tickless, idle) {
        (true, true, _) => Finding::ok(CHECK, "isolated, without a timer tick"),
        (true, false, _) => Finding::warn(CHECK, "isolated, but interrupted by the timer tick", mend),
        (false, _, Idle::Yield) => Finding::ok(CHECK, "shared with others, as idle = \"yield\" expects"),
        (false, _, Idle::Wait) => {
            Finding::ok(CHECK, "shared with the kernel's receive threads, as idle = \"wait\" expects")
        }
        (false, _, Idle::Spin) => Finding::warn(
            CHECK,
            "others run on it too, and wait while the switcher spins",
            mend + ", or idle = \"wait\"",
        ),
    }
}

fn isolation_of_machine(files: &Files) -> Finding {
    let isolated = kernel_list(files, "isolated");
    if isolated.is_empty() {
        let mend = "boot with isolcpus=LIST nohz_full=LIST rcu_nocbs=LIST, LIST being the switchers' CPUs";
        return Finding::warn("isolation", "no CPU is isolated: switchers share theirs with others", mend);
    }
    Finding::ok("isolation", format!("isolated CPUs: {isolated:?}"))
}

/// Most virtual machines have no governor; then there is no finding.
fn governor(files: &Files, cpu: u32) -> Option<Finding> {
    let path = format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
    let governor = files.text(&path)?;
    Some(if governor == "performance" {
        Finding::ok("governor", governor)
    } else {
        let mend = format!("echo performance > /{path}");
        Finding::warn("governor", format!("{governor}: the CPU slows down between bursts"), mend)
    })
}

fn balancer(files: &Files) -> Finding {
    let pids = files.list("proc").into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let runs = pids.filter_map(|pid| files.text(&format!("proc/{pid}/comm"))).any(|name| name == "irqbalance");
    if runs {
        let mend = "systemctl stop irqbalance, or set IRQBALANCE_BANNED_CPULIST to the switchers' CPUs";
        Finding::warn("irqbalance", "runs, and moves interrupts to the switchers' CPUs too", mend)
    } else {
        Finding::ok("irqbalance", "doesn't run")
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Files) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let files = Files::below(root.path());
        (root, files)
    }

    #[test]
    fn a_cpu_of_its_own_is_isolated_and_tickless() {
        let (_root, files) =
            machine(&[("sys/devices/system/cpu/isolated", "2-3\n"), ("sys/devices/system/cpu/nohz_full", "3\n")]);
        assert_eq!(isolation(&files, 3, Idle::Spin).level, Level::Ok);
        assert_eq!(isolation(&files, 2, Idle::Spin).level, Level::Warn);
        assert_eq!(isolation(&files, 1, Idle::Spin).level, Level::Warn);
        assert_eq!(isolation(&files, 1, Idle::Yield).level, Level::Ok);
    }

    #[test]
    fn a_governor_other_than_performance_is_reported() {
        let path = "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor";
        let (_root, files) = machine(&[(path, "powersave\n")]);
        assert_eq!(governor(&files, 1).map(|finding| finding.level), Some(Level::Warn));
        assert_eq!(governor(&files, 0), None);
    }

    #[test]
    fn a_cpu_that_is_not_online_fails() {
        let (_root, files) = machine(&[("sys/devices/system/cpu/online", "0-1\n")]);
        assert_eq!(examine_one(&files, 7, Idle::Spin)[0].level, Level::Fail);
    }

    #[test]
    fn irqbalance_is_found_by_its_name() {
        let (_root, files) = machine(&[("proc/12/comm", "irqbalance\n"), ("proc/self/comm", "x\n")]);
        assert_eq!(balancer(&files).level, Level::Warn);
    }
}
