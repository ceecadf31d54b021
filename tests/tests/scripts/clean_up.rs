//! Whatever ends a script that makes network namespaces, it leaves neither namespaces nor files behind.

use crate::said;
use shunt_tests::operator::{binaries, root};
use std::process::Command;

/// A machine of its own: mounts, network and /dev/shm, in which the script $1 is run.
const MACHINE: &str = r#"
set -euo pipefail
mount -t tmpfs tmpfs /run && mkdir /run/netns /run/lock
mount -t tmpfs tmpfs /dev/shm
ip link set lo up
"#;

/// Ends the script with the signal once its namespace $3 is there. With job control, so that SIGINT isn't ignored.
const SIGNALLED: &str = r#"
set -m
$1 >/run/output 2>&1 &
script=$!
for ((tries = 0; tries < 600; tries++)); do
    [[ ! -e /run/netns/$3 ]] || break
    sleep 0.05
done
[[ -e /run/netns/$3 ]] || { cat /run/output; exit 1; }
kill "-$2" "$script"
wait "$script" || true
"#;

/// Reads one line of what it prints, then closes the pipe, which takes its messages too.
const UNREAD: &str = r#"
{ $1 2>&1 || true; } | read -r line
"#;

/// What is left.
const LEFT: &str = r#"
find /run/netns /run/shunt-lab /run/shunt /dev/shm -mindepth 1 2>/dev/null || true
"#;

fn ends_clean(script: &str, how: &str, namespace: &str) {
    let way = if how == "PIPE" { UNREAD } else { SIGNALLED };
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--ipc", "--propagation", "private", "timeout", "120", "bash", "-c"]);
    command.arg(format!("{MACHINE}{way}{LEFT}")).args(["machine", script, how, namespace]);
    command.current_dir(root()).env("SHUNT_BIN", binaries().expect("the release build"));
    let (status, text, errors) = said(&command.output().expect("unshare, of util-linux"));
    assert_eq!((status, text.as_str()), (Some(0), ""), "{script} ended by SIG{how}: {errors}");
}

fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        eprintln!("SKIPPED: network namespaces need root");
    }
    is_root
}

#[test]
fn a_benchmark_that_is_ended_leaves_nothing_behind() {
    if !is_root() {
        return;
    }
    let benchmark = "tests/bench/http --rounds 1 --seconds 1 --devices straight";
    for how in ["PIPE", "HUP", "INT", "TERM"] {
        ends_clean(benchmark, how, "bench-servers");
    }
}

#[test]
fn a_laboratory_that_is_ended_while_it_comes_up_leaves_nothing_behind() {
    if !is_root() {
        return;
    }
    for how in ["HUP", "INT", "TERM"] {
        ends_clean("deploy/lab up", how, "shunt-lb");
    }
}

#[test]
fn a_demo_that_is_ended_leaves_nothing_behind() {
    if !is_root() {
        return;
    }
    // The signal comes while the laboratory comes up: it must be taken down all the same.
    for how in ["PIPE", "HUP", "TERM"] {
        ends_clean("deploy/demo --seconds 10", how, "demo-lb");
    }
}
