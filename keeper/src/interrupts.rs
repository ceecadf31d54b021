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

/// Name and value.
pub(super) type Setting = (&'static str, u64);

/// How often the kernel finds nothing before it lets interrupts happen again, and how long it waits for a call, in ns.
pub(super) const BUSY_POLLING: &[Setting] = &[("napi_defer_hard_irqs", 2), ("gro_flush_timeout", 200_000)];
/// 100 us: with less, timers and changes of context cost more than gathering saves; with more, latency grows.
pub(super) const RECEIVE_THREADS: &[Setting] =
    &[("napi_defer_hard_irqs", 2), ("gro_flush_timeout", 100_000), ("threaded", 1)];

/// One interface's settings before, which it gets back when this is dropped.
pub(super) struct Restore {
    interface: String,
    before: Vec<Setting>,
    is_complete: bool,
}

impl Restore {
    /// Sets them; says so and goes on without where the system doesn't have one. What a killed keeper `left` counts as the
    /// system's default, which most likely stood there.
    pub fn after_setting(interface: String, settings: &[Setting], left: bool) -> Restore {
        let mut before = Vec::new();
        for (name, value) in settings {
            match read(&interface, name).and_then(|found| write(&interface, name, *value).map(|()| found)) {
                Ok(found) => before.push((*name, if left && is_ours(name, found) { 0 } else { found })),
                Err(error) => log::warn!("interface {interface}: {error}; it stays as it was"),
            }
        }
        let is_complete = before.len() == settings.len();
        Restore { interface, before, is_complete }
    }

    /// Leaves the interface as it is set.
    pub fn leave(mut self) {
        self.before.clear();
    }

    /// The interface, if not all could be set.
    pub fn incomplete(&self) -> Option<&str> {
        (!self.is_complete).then_some(&self.interface)
    }
}

impl Drop for Restore {
    /// An interface that is gone needs nothing.
    fn drop(&mut self) {
        for (name, value) in &self.before {
            match write(&self.interface, name, *value) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => log::warn!("{error}; it was {value} before"),
                _ => {}
            }
        }
    }
}

fn is_ours(name: &str, value: u64) -> bool {
    BUSY_POLLING.iter().chain(RECEIVE_THREADS).any(|setting| *setting == (name, value))
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
