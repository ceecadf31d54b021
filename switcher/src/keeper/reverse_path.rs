//! Keeping the kernel from taking the host's packets a second time.
//!
//! AF_PACKET gets copies: the kernel has the packets too, and with the host's addresses on the pseudo-interface it would
//! take them, and answer what belongs to back-ends at a shared address. The way back from those addresses is the
//! pseudo-interface, so strict reverse path filtering (RFC 3704 2.2) refuses just them. AF_XDP needs none of it.

use std::path::{Path, PathBuf};
use std::{fs, io};

const LOOSE: u8 = 2;
const STRICT: u8 = 1;

/// An interface whose reverse paths are checked strictly, and its setting before.
pub(super) struct ReversePath {
    interface: String,
    before: u8,
}

impl ReversePath {
    /// Begins to check. Where a keeper that was killed did so before, the setting stays at the end.
    pub fn check(interface: &str) -> Option<ReversePath> {
        let before = match read(interface).and_then(|before| write(interface, STRICT).map(|()| before)) {
            Ok(before) => before,
            Err(error) => {
                log::warn!("{error}; the kernel takes packets to host.addresses on {interface} a second time");
                return None;
            }
        };
        // The larger of both settings counts (Linux, ip-sysctl.rst).
        if read("all").is_ok_and(|all| all == LOOSE) {
            let sentence = "is 2, and the kernel takes packets to host.addresses a second time: set it to 1 or 0";
            log::warn!("net.ipv4.conf.all.rp_filter {sentence}");
        }
        Some(ReversePath { interface: interface.to_owned(), before })
    }

    /// As it was before. An interface that is gone needs nothing.
    pub fn end(self) {
        if let Err(error) = write(&self.interface, self.before) {
            log::debug!("{error}");
        }
    }
}

fn path(interface: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net/ipv4/conf").join(interface).join("rp_filter")
}

fn read(interface: &str) -> io::Result<u8> {
    let path = path(interface);
    let text = fs::read_to_string(&path).map_err(|error| with_path(error, &path))?;
    text.trim().parse().map_err(io::Error::other)
}

fn write(interface: &str, value: u8) -> io::Result<()> {
    let path = path(interface);
    fs::write(&path, value.to_string()).map_err(|error| with_path(error, &path))
}

fn with_path(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
