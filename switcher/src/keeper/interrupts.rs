//! Whose work receiving is: what the keeper sets at an interface for it, and puts back at the stop.
//!
//! *Busy polling*: with `SO_PREFER_BUSY_POLL` alone the kernel still begins a softirq for what arrives between two calls.
//! With interrupts put off it leaves packets to the next call, and takes them itself only if none comes for the timeout: so
//! a switcher that dies or is stopped costs the interface nothing but that delay.
//!
//! *Receive threads*: the kernel's work on a queue is a thread's, and packets gather for a moment while some come anyway, so
//! that neither the thread nor the switcher behind it is woken for each. The first after a pause isn't delayed.
//!
//! The kernel's own packets, such as SSH's, arrive by the same way. (Linux, Documentation/networking/napi.rst.)

use std::path::PathBuf;
use std::{fs, io};

type Setting = (&'static str, u64);

/// How often the kernel finds nothing before it lets interrupts happen again, and how long it waits for a call, in ns.
pub(super) const BUSY_POLLING: &[Setting] = &[("napi_defer_hard_irqs", 2), ("gro_flush_timeout", 200_000)];
/// 100 us: with less, timers and changes of context cost more than gathering saves; with more, latency grows.
pub(super) const RECEIVE_THREADS: &[Setting] =
    &[("napi_defer_hard_irqs", 2), ("gro_flush_timeout", 100_000), ("threaded", 1)];

/// One interface's settings before.
pub(super) struct Restore {
    interface: String,
    before: Vec<Setting>,
}

impl Restore {
    /// Sets them; says so and goes on without where the system doesn't have one.
    pub fn after_setting(interface: String, settings: &[Setting]) -> Restore {
        let mut before = Vec::new();
        for (name, value) in settings {
            match read(&interface, name).and_then(|found| write(&interface, name, *value).map(|()| found)) {
                // Left behind by a keeper that was killed: the system's default was most likely what stood there.
                Ok(found) => before.push((*name, if found == *value { 0 } else { found })),
                Err(error) => log::warn!("interface {interface}: {error}; it stays as it was"),
            }
        }
        Restore { interface, before }
    }

    /// As it was before. An interface that is gone needs nothing.
    pub fn restore(self) {
        for (name, value) in self.before {
            match write(&self.interface, name, value) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => log::warn!("{error}; it was {value} before"),
                _ => {}
            }
        }
    }
}

fn path(interface: &str, setting: &str) -> PathBuf {
    PathBuf::from("/sys/class/net").join(interface).join(setting)
}

fn named(path: &std::path::Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn read(interface: &str, setting: &str) -> io::Result<u64> {
    let path = path(interface, setting);
    fs::read_to_string(&path).map_err(named(&path))?.trim().parse().map_err(io::Error::other)
}

fn write(interface: &str, setting: &str, value: u64) -> io::Result<()> {
    let path = path(interface, setting);
    fs::write(&path, value.to_string()).map_err(named(&path))
}
