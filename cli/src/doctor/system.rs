//! Queries that need system calls: ethtool's driver, channels and features (SIOCETHTOOL), and whether bpf(2) and AF_XDP
//! sockets work.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Result of trying an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It works.
    Works,
    /// A privilege is missing.
    Denied,
    /// The kernel does not support it.
    Absent(String),
}

impl Probe {
    fn of(result: io::Result<OwnedFd>) -> Self {
        match result {
            Ok(_) => Self::Works,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Self::Denied,
            Err(error) => Self::Absent(error.to_string()),
        }
    }
}

fn own(descriptor: libc::c_long) -> io::Result<OwnedFd> {
    let descriptor = Errno::result(descriptor)? as libc::c_int;
    // SAFETY: the system call has just returned the descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// `union bpf_attr` as far as BPF_MAP_CREATE of an old kernel reads it (linux/bpf.h).
#[repr(C)]
struct MapAttributes {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// Creates an XSKMAP of one entry, and closes it.
pub fn probe_bpf() -> Probe {
    const BPF_MAP_CREATE: libc::c_int = 0;
    const BPF_MAP_TYPE_XSKMAP: u32 = 17;
    let attributes =
        MapAttributes { map_type: BPF_MAP_TYPE_XSKMAP, key_size: 4, value_size: 4, max_entries: 1, map_flags: 0 };
    // SAFETY: the pointer and the size are those of `attributes`, which outlives the call and is only read.
    let made =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_CREATE, &raw const attributes, size_of::<MapAttributes>()) };
    Probe::of(own(made))
}

/// Opens an AF_XDP socket, and closes it.
pub fn probe_xdp_socket() -> Probe {
    // SAFETY: a system call without pointers.
    let made = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    Probe::of(own(made.into()))
}

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETH_SS_FEATURES: u32 = 4;
/// Bytes of a feature's name (ETH_GSTRING_LEN).
const NAME: usize = 32;
/// Upper bound on features; a longer list is rejected.
const MOST_FEATURES: usize = 512;

/// An interface queried by ethtool's ioctls.
pub struct Ethtool {
    socket: OwnedFd,
    name: [libc::c_char; libc::IFNAMSIZ],
}

impl Ethtool {
    /// `None` if the name is too long or no socket can be created.
    pub fn open(interface: &str) -> Option<Self> {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
        let mut name = [0; libc::IFNAMSIZ];
        if interface.len() >= name.len() {
            return None;
        }
        for (to, from) in name.iter_mut().zip(interface.bytes()) {
            *to = from as libc::c_char;
        }
        Some(Self { socket, name })
    }

    /// Sends one request. `words` begins with the command, and has room for the kernel's answer.
    fn ask(&self, words: &mut [u32]) -> io::Result<()> {
        let mut request = libc::ifreq {
            ifr_name: self.name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: words.as_mut_ptr().cast() },
        };
        // SAFETY: the request is an ifreq whose data points at `words`, which outlives the call; each caller below
        // gives as many words as the structure of its command has (linux/ethtool.h), counts in it included.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
        Errno::result(result).map(drop).map_err(io::Error::from)
    }

    /// The driver's name.
    pub fn driver(&self) -> Option<String> {
        let mut words = [0u32; 49]; // struct ethtool_drvinfo: cmd, driver[32], and more, 196 bytes
        words[0] = ETHTOOL_GDRVINFO;
        self.ask(&mut words).ok()?;
        let bytes: Vec<u8> = words[1..9].iter().flat_map(|word| word.to_ne_bytes()).collect();
        Some(text(&bytes))
    }

    /// Receive queues in use: `rx_count` and `combined_count` of struct ethtool_channels.
    pub fn receive_channels(&self) -> Option<u32> {
        let mut words = [0u32; 9];
        words[0] = ETHTOOL_GCHANNELS;
        self.ask(&mut words).ok()?;
        Some(words[5].saturating_add(words[8])).filter(|count| *count != 0)
    }

    /// Names of the enabled offloads, as in `ethtool -k`.
    pub fn active_features(&self) -> Option<Vec<String>> {
        let names = self.feature_names()?;
        let blocks = names.len().div_ceil(32);
        let mut words = vec![0u32; 2 + 4 * blocks]; // struct ethtool_gfeatures: cmd, size, blocks of four words
        words[0] = ETHTOOL_GFEATURES;
        words[1] = blocks as u32;
        self.ask(&mut words).ok()?;
        let active = |bit: &usize| words.get(2 + bit / 32 * 4 + 2).is_some_and(|word| word >> (bit % 32) & 1 == 1);
        let names = names.into_iter().enumerate().filter(|(bit, _)| active(bit));
        Some(names.map(|(_, name)| name).collect())
    }

    fn feature_names(&self) -> Option<Vec<String>> {
        let mut info = [0u32; 5]; // struct ethtool_sset_info: cmd, reserved, a mask of 64 bits, one count
        info[0] = ETHTOOL_GSSET_INFO;
        info[2..4].copy_from_slice(&mask_words(1 << ETH_SS_FEATURES));
        self.ask(&mut info).ok()?;
        let count = info[4] as usize;
        if count > MOST_FEATURES {
            return None;
        }
        // struct ethtool_gstrings: cmd, set, count, names. The kernel fills in what it has, not what was asked for.
        let mut words = vec![0u32; 3 + MOST_FEATURES * NAME / 4];
        words[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count as u32]);
        self.ask(&mut words).ok()?;
        let bytes: Vec<u8> = words[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
        Some(bytes.chunks_exact(NAME).take(count).map(text).collect())
    }
}

/// A 64-bit mask as the two words that memory holds.
fn mask_words(mask: u64) -> [u32; 2] {
    let bytes = mask.to_ne_bytes();
    let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    [word(0), word(4)]
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_features_and_no_channels() {
        let loopback = Ethtool::open("lo").unwrap();
        let features = loopback.active_features().unwrap();
        assert!(features.iter().any(|name| name == "loopback"), "{features:?}");
        assert_eq!(loopback.receive_channels(), None);
    }

    #[test]
    fn an_interface_that_is_not_there_has_nothing() {
        let nothing = Ethtool::open("shunt-none").unwrap();
        assert_eq!((nothing.driver(), nothing.active_features()), (None, None));
        assert!(Ethtool::open("a-name-that-is-too-long").is_none());
    }
}
