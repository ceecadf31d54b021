//! Network namespaces for tests against a real kernel.

use std::process::{Child, Command, Stdio};

use nix::sched::{CloneFlags, unshare};

/// Runs `test` in a thread whose network namespace is new and unnamed, so that it vanishes with the thread.
pub fn in_namespace(test: impl AsyncFnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: network namespaces need root");
        return;
    }
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A second namespace, held by a process that ends with this value, or by itself after a minute.
pub struct Peer(Child);

impl Peer {
    pub fn start() -> Self {
        // `exec` after `unshare`, so that the process that is killed is the one that holds the namespace.
        let child = Command::new("unshare")
            .args(["-n", "sh", "-c", "echo ready; exec sleep 60"])
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.expect("unshare, of util-linux");
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
        Self(child)
    }

    pub fn pid(&self) -> String {
        self.0.id().to_string()
    }

    pub fn run(&self, command: &str) {
        run("nsenter", &format!("-t {} -n {command}", self.pid()));
    }

    pub fn ip(&self, arguments: &str) {
        self.run(&format!("ip {arguments}"));
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(program: &str, arguments: &str) {
    let status = Command::new(program).args(arguments.split_whitespace()).status().unwrap();
    assert!(status.success(), "{program} {arguments}");
}

pub fn ip(arguments: &str) {
    run("ip", arguments);
}
