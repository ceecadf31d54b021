//! Interface settings for busy polling and receive threads: the keeper sets them and restores them when it stops.
//!
//! *Busy polling*: with `SO_PREFER_BUSY_POLL` alone the kernel still raises a softirq for packets between two calls. With
//! interrupts deferred it leaves packets to the next call, and fetches them itself only after a timeout without a call: if
//! a switcher dies or stops, the interface loses nothing but that delay.
//!
//! *Receive threads*: a kernel thread works on the queue, and packets are batched briefly while traffic flows, so that
//! neither the thread nor the switcher wakes up per packet. The first packet after a pause is not delayed.
//!
//! The kernel's own packets, such as SSH's, arrive on the same queues. (Linux, Documentation/networking/napi.rst.)

use std::path::PathBuf;
use std::{fs, io};

/// Name and value.
pub(super) type Setting = (&'static str, u64);

/// Empty polls before the kernel re-enables interrupts, and the timeout for the next call, in ns.
pub(super) const BUSY_POLLING: &[Setting] = &[("napi_defer_hard_irqs", 2), ("gro_flush_timeout", 200_000)];
/// 100 us: a lower value costs more timers and context switches than batching saves; a higher one adds latency.
pub(super) const RECEIVE_THREADS: &[Setting] =
    &[("napi_defer_hard_irqs", 2), ("gro_flush_timeout", 100_000), ("threaded", 1)];

/// Previous settings of one interface, restored on drop.
pub(super) struct Restore {
    interface: String,
    before: Vec<Setting>,
    is_complete: bool,
}

impl Restore {
    /// Applies the settings; logs and skips those that fail. Values that a killed keeper `left` count as the system's
    /// default, which they most likely replaced.
    pub fn after_setting(interface: String, settings: &[Setting], left: bool) -> Restore {
        let mut before = Vec::new();
        for (name, value) in settings {
            match read(&interface, name).and_then(|found| write(&interface, name, *value).map(|()| found)) {
                Ok(found) => before.push((*name, if left && is_ours(name, found) { 0 } else { found })),
                Err(error) => log::warn!("interface {interface}: {error}; the setting stays unchanged"),
            }
        }
        let is_complete = before.len() == settings.len();
        Restore { interface, before, is_complete }
    }

    /// Keeps the current settings instead of restoring them.
    pub fn leave(mut self) {
        self.before.clear();
    }

    /// The interface's name, if a setting failed.
    pub fn incomplete(&self) -> Option<&str> {
        (!self.is_complete).then_some(&self.interface)
    }
}

impl Drop for Restore {
    /// An interface that is gone needs no restoring.
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
