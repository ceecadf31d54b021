//! How long a thread of the kernel runs before others of its CPU get their turn: `sched_setattr(2)`, which nix lacks.
#![allow(unsafe_code)]

use std::io;
use std::time::Duration;

use nix::unistd::Pid;

/// Gives an ordinary thread turns of this length, from 100 us to 100 ms, and the usual share of its CPU. Before Linux 6.12 the
/// kernel accepts the length and ignores it.
pub(super) fn set_turn(thread: Pid, turn: Duration) -> io::Result<()> {
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER as u32,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: turn.as_nanos() as u64,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes at `attributes`, a live value of that size.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, thread.as_raw(), &raw const attributes, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
