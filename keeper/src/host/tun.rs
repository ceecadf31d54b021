//! TUN devices: IP packets without Ethernet header, read and written by a program (linux/if_tun.h). Only the system calls;
//! name and addresses belong to the pseudo-interface.
//!
//! `tun-tap` creates the plain device. A device with offloads needs flags that the crate does not support, and so its own
//! ioctls.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::net::if_::if_nametoindex;
use tun_tap::{Iface, Mode};

const CLONE_DEVICE: &str = "/dev/net/tun";

/// Why the device could not be created.
#[derive(Debug, thiserror::Error)]
pub(super) enum TunError {
    /// The name is taken.
    #[error(
        "host.device: there is a network device {0} already; choose another name, or remove it (ip link del {0}) if nobody uses it"
    )]
    Taken(String),
    /// The kernel has no TUN.
    #[error(
        "{CLONE_DEVICE}: {0}; the pseudo-interface needs it: modprobe tun, or remove [host] from the configuration"
    )]
    NoTun(io::Error),
    /// The system call failed for another reason.
    #[error("making the network device {name}: {error}; shunt-keeper needs CAP_NET_ADMIN")]
    Refused {
        /// The device's name.
        name: String,
        /// The system's answer.
        error: io::Error,
    },
}

/// A device, which exists until its last descriptor is closed.
#[derive(Debug)]
pub(super) struct Tun {
    pub descriptor: OwnedFd,
    /// Whether each packet has a vnet header, and may be larger than the MTU.
    pub has_offloads: bool,
}

impl Tun {
    /// Creates a device; fails if the name is taken. Falls back to no offloads if the kernel does not support them.
    pub fn create(name: &str, wants_offloads: bool) -> Result<Tun, TunError> {
        if wants_offloads {
            match create_with_header(name).and_then(set_offloads) {
                Ok(descriptor) => return Ok(Tun { descriptor, has_offloads: true }),
                Err(TunError::Refused { error, .. }) => log::info!("device {name} without offloads: {error}"),
                Err(error) => return Err(error),
            }
        }
        Ok(Tun { descriptor: create_plain(name)?, has_offloads: false })
    }

    /// A device retrieved from another process, and its name.
    pub fn adopt(descriptor: OwnedFd) -> io::Result<(Tun, String)> {
        let mut request = request("", 0);
        // SAFETY: TUNGETIFF writes a whole ifreq, which `request` is and outlives the call.
        if unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNGETIFF, &raw mut request) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: TUNGETIFF has written the flags, and the name with its end.
        let (flags, name) = unsafe { (request.ifr_ifru.ifru_flags, CStr::from_ptr(request.ifr_name.as_ptr())) };
        let has_offloads = i32::from(flags) & libc::IFF_VNET_HDR != 0;
        Ok((Tun { descriptor, has_offloads }, name.to_string_lossy().into_owned()))
    }
}

/// A device without offloads. `tun-tap` would reuse an existing device that no process has open, so the name is checked
/// first.
fn create_plain(name: &str) -> Result<OwnedFd, TunError> {
    if if_nametoindex(name).is_ok() {
        return Err(TunError::Taken(name.into()));
    }
    let device = Iface::without_packet_info(name, Mode::Tun).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => TunError::NoTun(error),
        Some(libc::EBUSY) => TunError::Taken(name.into()),
        _ => TunError::Refused { name: name.into(), error },
    })?;
    // SAFETY: `into_raw_fd` leaves the descriptor open, and nothing else owns it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(device.into_raw_fd()) };
    fcntl(&descriptor, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(|errno| TunError::Refused { name: name.into(), error: errno.into() })?;
    Ok(descriptor)
}

/// A device whose packets have a vnet header.
fn create_with_header(name: &str) -> Result<OwnedFd, TunError> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    let descriptor = OwnedFd::from(options.open(CLONE_DEVICE).map_err(TunError::NoTun)?);
    // IFF_TUN_EXCL occupies the sign bit of a field that the kernel reads as unsigned.
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL | libc::IFF_VNET_HDR) as u16;
    let mut request = request(name, flags.cast_signed());
    // SAFETY: TUNSETIFF reads and writes a whole ifreq, which `request` is and outlives the call.
    let result = unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    match Errno::result(result) {
        Ok(_) => Ok(descriptor),
        Err(Errno::EBUSY | Errno::EEXIST) => Err(TunError::Taken(name.into())),
        Err(errno) => Err(TunError::Refused { name: name.into(), error: errno.into() }),
    }
}

/// Enables checksum offload and TCP segmentation offload.
fn set_offloads(descriptor: OwnedFd) -> Result<OwnedFd, TunError> {
    let refused = |error| TunError::Refused { name: "with offloads".into(), error };
    offload(descriptor.as_fd(), libc::TUN_F_CSUM | libc::TUN_F_TSO4).map_err(refused)?;
    Ok(descriptor)
}

fn offload(descriptor: BorrowedFd<'_>, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes a number, no memory.
    let result = unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags)) };
    Ok(Errno::result(result).map(drop)?)
}

/// Truncates a name that does not fit; the configuration rejects such names.
fn request(name: &str, flags: i16) -> libc::ifreq {
    let mut request =
        libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags } };
    for (to, byte) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(name.bytes()) {
        *to = byte.cast_signed();
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::{CloneFlags, unshare};

    #[test]
    fn a_plain_device_is_made_and_never_taken_over() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: network namespaces need root");
            return;
        }
        // Namespaces are a thread's, and this one's vanishes with it.
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let first = Tun::create("t0", false).unwrap();
            let (copy, name) = Tun::adopt(first.descriptor.try_clone().unwrap()).unwrap();
            assert_eq!((first.has_offloads, copy.has_offloads, &*name), (false, false, "t0"));
            let again = nix::unistd::read(&first.descriptor, &mut [0; 64]);
            assert_eq!(again, Err(Errno::EAGAIN), "no packet, and no wait for one");
            let added = std::process::Command::new("ip").args(["tuntap", "add", "t1", "mode", "tun"]).status().unwrap();
            assert!(added.success());
            for taken in ["t0", "t1"] {
                assert!(matches!(Tun::create(taken, false), Err(TunError::Taken(name)) if name == taken));
            }
        });
        made.join().unwrap();
    }
}
