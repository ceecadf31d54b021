//! Pins the kernel's receive threads (threaded NAPI: Linux, Documentation/networking/napi.rst) to the CPU of the switcher
//! that polls the queue: receiving then uses no other CPU and wakes a waiting switcher on its own.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::napi;
use shunt_process::scheduling::set_time_slice;

/// Interval for re-checking the threads: an interface that was down gets new ones.
const INTERVAL: Duration = Duration::from_secs(1);

/// Scheduler slice of a receive thread. The threads of all interfaces of a switcher share its CPU: with the default slice
/// (1.4 ms on two CPUs), packets of one interface waited that long for those of another. This is the kernel's minimum; a
/// longer slice adds latency and saves context switches.
const TURN: Duration = Duration::from_micros(100);

/// The threads of one interface.
pub(super) struct ReceiveThreads {
    name: String,
    index: u32,
    /// By queue, the CPU of its switcher.
    cpus: Vec<u32>,
    pinned: Vec<Pid>,
    /// Whether the failure to list the threads has been logged.
    has_warned: bool,
    next: Instant,
}

impl ReceiveThreads {
    /// Pins nothing before the first [`ReceiveThreads::keep`].
    pub fn new(name: String, index: u32, cpus: Vec<u32>) -> ReceiveThreads {
        ReceiveThreads { name, index, cpus, pinned: Vec::new(), has_warned: false, next: Instant::now() }
    }

    /// Pins the threads that are not pinned yet.
    pub fn keep(&mut self, now: Instant) {
        if now < self.next {
            return;
        }
        self.next = now + INTERVAL;
        match napi::threads(self.index) {
            Ok(threads) if threads == self.pinned => {}
            Ok(threads) => {
                self.pin(&threads);
                self.pinned = threads;
            }
            Err(error) if !self.has_warned => {
                self.has_warned = true;
                log::warn!(
                    "interface {}: which receive threads it has isn't known: {error}; from Linux 6.8 on they can be pinned, now \
                     they run anywhere",
                    self.name
                );
            }
            Err(_) => {}
        }
    }

    fn pin(&self, threads: &[Pid]) {
        let name = &self.name;
        for (number, thread) in threads.iter().enumerate() {
            // If the counts differ, threads cannot be matched to queues, but all work for these switchers.
            let own = (threads.len() == self.cpus.len()).then(|| number..number + 1);
            let cpus = &self.cpus[own.unwrap_or(0..self.cpus.len())];
            match set_of(cpus).and_then(|set| pin(*thread, &set)) {
                Ok(()) => {
                    log::info!("interface {name}: receive thread {thread} runs on CPU {cpus:?}");
                    if let Err(error) = set_time_slice(*thread, TURN) {
                        log::warn!("interface {name}: receive thread {thread} keeps the default slice: {error}");
                    }
                }
                Err(error) => log::warn!(
                    "interface {name}: receive thread {thread} can't be pinned to CPU {cpus:?}: {error}; it runs anywhere. \
                     It takes CAP_SYS_NICE, and the machine's own pid namespace"
                ),
            }
        }
    }
}

/// The kernel reports the pid of the initial pid namespace; in another one it may belong to no process, or to a different
/// one.
fn pin(thread: Pid, cpus: &CpuSet) -> nix::Result<()> {
    let name = std::fs::read_to_string(format!("/proc/{thread}/comm")).unwrap_or_default();
    if !name.starts_with("napi/") {
        return Err(Errno::ESRCH);
    }
    sched_setaffinity(thread, cpus)
}

fn set_of(cpus: &[u32]) -> nix::Result<CpuSet> {
    let mut set = CpuSet::new();
    cpus.iter().try_for_each(|cpu| set.set(*cpu as usize))?;
    Ok(set)
}
