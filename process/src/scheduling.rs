//! Thread scheduling by `sched_setattr(2)`, which nix lacks.
#![allow(unsafe_code)]

use std::io;
use std::time::Duration;

use nix::libc;
use nix::unistd::Pid;

/// The lowest priority of SCHED_FIFO: above every ordinary thread (sched(7)).
const LOWEST_REAL_TIME: u32 = 1;

/// Sets the time slice of an ordinary thread, from 100 us to 100 ms; its share of the CPU is unchanged. Kernels before
/// Linux 6.12 accept the value and ignore it.
pub fn set_time_slice(thread: Pid, slice: Duration) -> io::Result<()> {
    set(thread, libc::SCHED_OTHER, 0, slice.as_nanos() as u64)
}

/// Gives the calling thread priority over every ordinary thread on its CPU until it sleeps.
pub(crate) fn set_real_time() -> io::Result<()> {
    set(Pid::from_raw(0), libc::SCHED_FIFO, LOWEST_REAL_TIME, 0)
}

fn set(thread: Pid, policy: i32, priority: u32, slice_ns: u64) -> io::Result<()> {
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: policy as u32,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: priority,
        sched_runtime: slice_ns,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes at `attributes`, a live value of that size.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, thread.as_raw(), &raw const attributes, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
