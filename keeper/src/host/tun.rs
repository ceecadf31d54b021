//! TUN devices: packets without Ethernet, read and written by a program (linux/if_tun.h). Only the calls are here; what
//! the device is called and has is the pseudo-interface's.
//!
//! Not by the crate `tun-tap`: it can ask neither for an exclusive name (`IFF_TUN_EXCL`) nor for offloads.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;

const CLONE_DEVICE: &str = "/dev/net/tun";

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
pub(super) enum TunError {
    /// Another one has the name.
    #[error(
        "host.device: there is a network device {0} already; choose another name, or remove it (ip link del {0}) if nobody uses it"
    )]
    Taken(String),
    /// The kernel has no TUN.
    #[error(
        "{CLONE_DEVICE}: {0}; the pseudo-interface needs it: modprobe tun, or remove [host] from the configuration"
    )]
    NoTun(io::Error),
    /// Refused for another reason.
    #[error("making the network device {name}: {error}; shunt-keeper needs CAP_NET_ADMIN")]
    Refused {
        /// The device's name.
        name: String,
        /// The system's answer.
        error: io::Error,
    },
}

/// A device, which is there as long as somebody has its descriptor.
#[derive(Debug)]
pub(super) struct Tun {
    pub descriptor: OwnedFd,
    /// Whether each packet has a vnet header, and may be larger than the MTU.
    pub has_offloads: bool,
}

impl Tun {
    /// Makes a device; refuses a name that is taken. Where the kernel can't hand over large packets, there are none.
    pub fn create(name: &str, wants_offloads: bool) -> Result<Tun, TunError> {
        if wants_offloads {
            match Self::create_with(name, libc::IFF_VNET_HDR).and_then(set_offloads) {
                Ok(descriptor) => return Ok(Tun { descriptor, has_offloads: true }),
                Err(TunError::Refused { error, .. }) => log::info!("device {name} without offloads: {error}"),
                Err(error) => return Err(error),
            }
        }
        Ok(Tun { descriptor: Self::create_with(name, 0)?, has_offloads: false })
    }

    /// A device that another process has, and its name.
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

    fn create_with(name: &str, flag: i32) -> Result<OwnedFd, TunError> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
        let descriptor = OwnedFd::from(options.open(CLONE_DEVICE).map_err(TunError::NoTun)?);
        // IFF_TUN_EXCL is above the sign bit of the field that the kernel reads as unsigned.
        let flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL | flag) as u16;
        let mut request = request(name, flags.cast_signed());
        // SAFETY: TUNSETIFF reads and writes a whole ifreq, which `request` is and outlives the call.
        let result = unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        match Errno::result(result) {
            Ok(_) => Ok(descriptor),
            Err(Errno::EBUSY | Errno::EEXIST) => Err(TunError::Taken(name.into())),
            Err(errno) => Err(TunError::Refused { name: name.into(), error: errno.into() }),
        }
    }
}

/// Lets the kernel hand over packets without checksums, and several TCP segments as one.
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

/// The name is cut where it doesn't fit; the configuration has seen to it that it does.
fn request(name: &str, flags: i16) -> libc::ifreq {
    let mut request =
        libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags } };
    for (to, byte) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(name.bytes()) {
        *to = byte.cast_signed();
    }
    request
}
