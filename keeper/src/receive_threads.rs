//! The kernel's receive threads (threaded NAPI: Linux, Documentation/networking/napi.rst), each on the CPU of the switcher
//! that polls the queue: so that receiving costs no other CPU anything, and wakes a waiting switcher on its own.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::napi;
use shunt_process::scheduling::set_time_slice;

/// How often is looked whether the threads are still the same: an interface that was down has others.
const INTERVAL: Duration = Duration::from_secs(1);

/// A receive thread's turn on its CPU. The threads of all interfaces of a switcher share its CPU: with the scheduler's
/// usual turns (1.4 ms on two CPUs) packets of one interface waited that long behind those of another. The kernel allows
/// no less; more lets packets wait longer, and saves changes of context.
const TURN: Duration = Duration::from_micros(100);

/// The threads of one interface.
pub(super) struct ReceiveThreads {
    name: String,
    index: u32,
    /// By queue, the CPU of its switcher.
    cpus: Vec<u32>,
    pinned: Vec<Pid>,
    /// That the kernel doesn't tell.
    is_told: bool,
    next: Instant,
}

impl ReceiveThreads {
    /// Nothing is pinned before the first [`ReceiveThreads::keep`].
    pub fn new(name: String, index: u32, cpus: Vec<u32>) -> ReceiveThreads {
        ReceiveThreads { name, index, cpus, pinned: Vec::new(), is_told: false, next: Instant::now() }
    }

    /// Pins those that aren't yet.
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
            Err(error) if !self.is_told => {
                self.is_told = true;
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
            // More threads than queues, or fewer: which is whose isn't known, but all work for these switchers.
            let own = (threads.len() == self.cpus.len()).then(|| number..number + 1);
            let cpus = &self.cpus[own.unwrap_or(0..self.cpus.len())];
            match set_of(cpus).and_then(|set| pin(*thread, &set)) {
                Ok(()) => {
                    log::info!("interface {name}: receive thread {thread} runs on CPU {cpus:?}");
                    if let Err(error) = set_time_slice(*thread, TURN) {
                        log::warn!("interface {name}: receive thread {thread} keeps the usual turns: {error}");
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

/// The kernel tells the machine's pid: in a pid namespace it is nobody's, or somebody else's.
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
