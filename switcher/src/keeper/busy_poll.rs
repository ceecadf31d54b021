//! Putting an interface's interrupts off while switchers fetch its packets themselves.
//!
//! With `SO_PREFER_BUSY_POLL` alone the kernel still begins a softirq for what arrives between two calls. With both
//! settings here it leaves packets to the next call, and takes them itself only if none comes for the timeout: so a
//! switcher that dies or is stopped costs the interface nothing but that delay. The kernel's own packets, such as SSH's,
//! arrive by the same calls. (Linux, Documentation/networking/napi.rst, "Preferred busy polling".)

use std::path::PathBuf;
use std::{fs, io};

/// How often the kernel finds nothing before it lets interrupts happen again.
const DEFERRED_INTERRUPTS: u64 = 2;
/// How long it waits for a call, in nanoseconds.
const TIMEOUT_NS: u64 = 200_000;

const SETTINGS: [(&str, u64); 2] = [("napi_defer_hard_irqs", DEFERRED_INTERRUPTS), ("gro_flush_timeout", TIMEOUT_NS)];

/// One interface whose interrupts are put off, and its settings before.
pub(super) struct Deferral {
    interface: String,
    before: [u64; 2],
}

impl Deferral {
    /// Puts them off; says so and goes on without where the system doesn't have it.
    pub fn begin(interface: String) -> Option<Deferral> {
        let before = SETTINGS.map(|(name, value)| match read(&interface, name) {
            // Left behind by a keeper that was killed: the system's default was most likely what stood there.
            Ok(found) if found == value => 0,
            found => found.unwrap_or(0),
        });
        let set = SETTINGS.iter().try_for_each(|(name, value)| write(&interface, name, *value));
        if let Err(error) = set {
            log::warn!("interface {interface}: {error}; busy polling goes on beside interrupts");
            return None;
        }
        Some(Deferral { interface, before })
    }

    /// As it was before. An interface that is gone needs nothing.
    pub fn end(self) {
        for ((name, _), value) in SETTINGS.iter().zip(self.before) {
            if let Err(error) = write(&self.interface, name, value) {
                log::debug!("{error}");
            }
        }
    }
}

fn path(interface: &str, setting: &str) -> PathBuf {
    PathBuf::from("/sys/class/net").join(interface).join(setting)
}

fn read(interface: &str, setting: &str) -> io::Result<u64> {
    fs::read_to_string(path(interface, setting))?.trim().parse().map_err(io::Error::other)
}

fn write(interface: &str, setting: &str, value: u64) -> io::Result<()> {
    let path = path(interface, setting);
    fs::write(&path, value.to_string())
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
