//! When a thread gets its CPU: `sched_setattr(2)`, which nix lacks.
#![allow(unsafe_code)]

use std::io;
use std::time::Duration;

use nix::libc;
use nix::unistd::Pid;

/// The lowest priority of SCHED_FIFO: before every ordinary thread (sched(7)).
const LOWEST_REAL_TIME: u32 = 1;

/// Gives an ordinary thread turns of this length, from 100 us to 100 ms, and the usual share of its CPU. Before Linux 6.12 the
/// kernel accepts the length and ignores it.
pub fn set_turn(thread: Pid, turn: Duration) -> io::Result<()> {
    set(thread, libc::SCHED_OTHER, 0, turn.as_nanos() as u64)
}

/// Makes the calling thread run before all ordinary ones of its CPU, until it waits.
pub(crate) fn set_real_time() -> io::Result<()> {
    set(Pid::from_raw(0), libc::SCHED_FIFO, LOWEST_REAL_TIME, 0)
}

fn set(thread: Pid, policy: i32, priority: u32, turn_ns: u64) -> io::Result<()> {
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: policy as u32,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: priority,
        sched_runtime: turn_ns,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes at `attributes`, a live value of that size.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, thread.as_raw(), &raw const attributes, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
