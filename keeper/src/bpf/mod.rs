//! The XDP program on an interface and its maps (`shunt.bpf.c`), which select Shunt's packets.
//!
//! The keeper alone loads and writes; the kernel reads. Link and maps are pinned, so that packets keep coming while the
//! keeper is dead, and a restarted one takes them over and swaps its own program in without losing a packet:
//!
//! ```text
//! /run/shunt/NAME/bpf/        a bpffs of our own
//!   if4/                      interface index: bpffs allows no dot in a name, and a re-created interface is another one
//!     link                    attachment; removing it detaches
//!     ports services backends local
//! ```

mod mount;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use aya::maps::{HashMap, Map, MapData, MapError, XskMap};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfError, EbpfLoader};
use shunt_shmlayout::address::{Address, PortBe};

pub use mount::{is_bpffs, mount, unmount};

static PROGRAM: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/shunt.bpf.o"));

/// The kernel detaches a program some time after its last pin is gone.
const BUSY_TRIES: u32 = 20;
const BUSY_WAIT: Duration = Duration::from_millis(5);
/// Minimum capacity for the box's own addresses.
const LOCAL_ADDRESSES: u32 = 1024;
const MAPS: [&str; 4] = ["ports", "services", "backends", "local"];

/// Where in the kernel the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// After the driver, on the kernel's own buffers: any interface, slower.
    Generic,
}

/// Capacity of the maps.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Queues of the interface.
    pub queues: u32,
    /// Service addresses, of two epochs.
    pub services: u32,
    /// Backends, of two epochs.
    pub backends: u32,
    /// The box's own addresses at the start; the map has capacity for twice as many.
    pub local: u32,
}

/// Why the program is not attached.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// A file or the file system.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// Loading.
    #[error("loading the XDP program: {0}; it needs root (CAP_BPF, CAP_NET_ADMIN) and Linux 6.6 or later")]
    Load(#[from] Box<EbpfError>),
    /// The program file isn't what was built.
    #[error("the XDP program has no {0}: this is a broken build")]
    Missing(&'static str),
    /// Attaching.
    #[error("attaching the XDP program to interface {interface}: {error}; {}", advice(.error))]
    Attach {
        /// Interface index.
        interface: u32,
        /// The system's error.
        error: Box<ProgramError>,
    },
    /// Pinning.
    #[error("pinning below {path}: {error}")]
    Pin {
        /// Where.
        path: PathBuf,
        /// What.
        error: aya::pin::PinError,
    },
    /// A map has no room for a key.
    #[error("map {map} of the XDP program is full; {}", more_room(.map))]
    Full {
        /// Which.
        map: &'static str,
    },
    /// A map.
    #[error("map {map} of the XDP program: {error}")]
    Map {
        /// Which.
        map: &'static str,
        /// What.
        error: Box<MapError>,
    },
}

fn more_room(map: &str) -> &'static str {
    match map {
        "local" => {
            "packets to other addresses of the box may be taken for Shunt's: remove addresses from the box, or stop Shunt and \
             start it again, which doubles the capacity for the addresses it finds then"
        }
        _ => "stop Shunt and start it again, which sizes the map by the limits",
    }
}

/// The errno inside aya's error.
fn system_error(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    }
}

fn is_busy(error: &ProgramError) -> bool {
    matches!(system_error(error), Some(libc::EBUSY | libc::EEXIST))
}

fn advice(error: &ProgramError) -> &'static str {
    match system_error(error) {
        Some(libc::EBUSY | libc::EEXIST) => {
            "another XDP program is there: remove it (ip link set dev NAME xdp off, or bpftool link detach id N), or \
             set interface.port = \"af_packet\""
        }
        Some(libc::EOPNOTSUPP) => "the driver has no XDP: set interface.mode = \"generic-copy\"",
        Some(libc::EINVAL | libc::ERANGE | libc::E2BIG) => "the MTU may be too large for XDP (about 3500), or LRO on",
        _ => "set interface.port = \"af_packet\" to go without XDP",
    }
}

impl RedirectError {
    /// Whether another program is on the interface.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Attach { error, .. } if is_busy(error))
    }

    /// Whether the driver lacks the mode, so that [`AttachMode::Generic`] may work.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Attach { error, .. }
            if matches!(system_error(error), Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE)))
    }
}

/// The program on one interface, and what it redirects.
pub struct Redirect {
    folder: PathBuf,
    ports: XskMap<MapData>,
    services: KeySet<16>,
    backends: KeySet<20>,
    local: KeySet<16>,
}

impl Redirect {
    /// Attaches the program to an interface, or takes over a previous keeper's attachment. `directory` is a bpffs.
    pub fn attach(directory: &Path, interface: u32, mode: AttachMode, sizes: Sizes) -> Result<Self, RedirectError> {
        let folder = folder(directory, interface);
        if let Err(error) = std::fs::create_dir(&folder)
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(RedirectError::File { path: folder, error });
        }
        let mut loaded = load(&folder, sizes)?;
        attach(&mut loaded, &folder, interface, mode)?;
        let map = |loaded: &mut Ebpf, name| loaded.take_map(name).ok_or(RedirectError::Missing(name));
        let ports = map(&mut loaded, "ports")?;
        Ok(Self {
            ports: XskMap::try_from(ports).map_err(map_error("ports"))?,
            services: KeySet::open("services", map(&mut loaded, "services")?)?,
            backends: KeySet::open("backends", map(&mut loaded, "backends")?)?,
            local: KeySet::open("local", map(&mut loaded, "local")?)?,
            folder,
        })
    }

    /// Sends a queue's packets to this AF_XDP socket.
    pub fn set_port(&mut self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), RedirectError> {
        self.ports.set(queue, socket.as_raw_fd(), 0).map_err(map_error("ports"))
    }

    /// Replaces the service addresses.
    pub fn set_services(&mut self, addresses: impl IntoIterator<Item = Address>) -> Result<(), RedirectError> {
        self.services.replace(addresses.into_iter().map(|address| address.0).collect())
    }

    /// Replaces the backends whose replies Shunt receives.
    pub fn set_backends(
        &mut self,
        backends: impl IntoIterator<Item = (Address, PortBe, u8)>,
    ) -> Result<(), RedirectError> {
        self.backends.replace(backends.into_iter().map(backend_key).collect())
    }

    /// Replaces the box's own addresses.
    pub fn set_local(&mut self, addresses: impl IntoIterator<Item = Address>) -> Result<(), RedirectError> {
        self.local.replace(addresses.into_iter().map(|address| address.0).collect())
    }

    /// Detaches the program and removes all pins.
    pub fn detach(self) -> Result<(), RedirectError> {
        let file_error = |path: &Path| {
            let path = path.to_owned();
            |error| RedirectError::File { path, error }
        };
        // The link first: from then on the kernel gets all packets.
        for name in ["link"].into_iter().chain(MAPS) {
            let path = self.folder.join(name);
            std::fs::remove_file(&path).map_err(file_error(&path))?;
        }
        std::fs::remove_dir(&self.folder).map_err(file_error(&self.folder))
    }
}

fn folder(directory: &Path, interface: u32) -> PathBuf {
    directory.join(format!("if{interface}"))
}

fn map_error<E: Into<MapError>>(map: &'static str) -> impl FnOnce(E) -> RedirectError {
    move |error| RedirectError::Map { map, error: Box::new(error.into()) }
}

/// Loads program and maps; maps that are pinned in `folder` are used again, others are made and pinned there.
fn load(folder: &Path, sizes: Sizes) -> Result<Ebpf, RedirectError> {
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries("ports", sizes.queues.max(1))
        .map_max_entries("services", sizes.services.max(1))
        .map_max_entries("backends", sizes.backends.max(1))
        .map_max_entries("local", sizes.local.saturating_mul(2).max(LOCAL_ADDRESSES));
    for name in MAPS {
        loader.map_pin_path(name, folder.join(name));
    }
    loader.load(PROGRAM).map_err(|error| RedirectError::Load(Box::new(error)))
}

fn attach(loaded: &mut Ebpf, folder: &Path, interface: u32, mode: AttachMode) -> Result<(), RedirectError> {
    let attach_error = |error| RedirectError::Attach { interface, error: Box::new(error) };
    let program = loaded.program_mut("shunt").ok_or(RedirectError::Missing("program shunt"))?;
    let program: &mut Xdp = program.try_into().map_err(attach_error)?;
    program.load().map_err(attach_error)?;
    let path = folder.join("link");
    if let Some(link) = pinned_link(&path) {
        match program.attach_to_link(link) {
            Ok(link) => {
                // Taken from the program, which would detach it on drop; the pin keeps it.
                drop(program.take_link(link).map_err(attach_error)?);
                return Ok(());
            }
            Err(error) => log::warn!("{}: {error}; attaching again", path.display()),
        }
    }
    if path.exists() {
        std::fs::remove_file(&path).map_err(|error| RedirectError::File { path: path.clone(), error })?;
    }
    let mode = match mode {
        AttachMode::Native => XdpMode::Driver,
        AttachMode::Generic => XdpMode::Skb,
    };
    let mut tries = 0;
    let link = loop {
        match program.attach_to_if_index(interface, mode) {
            Err(error) if is_busy(&error) && tries < BUSY_TRIES => {
                tries += 1;
                sleep(BUSY_WAIT);
            }
            result => break result.map_err(attach_error)?,
        }
    };
    let link = program.take_link(link).map_err(attach_error)?;
    let link = FdLink::try_from(link).map_err(|_| RedirectError::Missing("link: Linux 5.9 or later is needed"))?;
    link.pin(&path).map_err(|error| RedirectError::Pin { path, error })?;
    Ok(())
}

fn pinned_link(path: &Path) -> Option<XdpLink> {
    let link = PinnedLink::from_pin(path).ok()?;
    XdpLink::try_from(FdLink::from(link)).ok()
}

/// `struct backend` of the program.
fn backend_key((address, port, protocol): (Address, PortBe, u8)) -> [u8; 20] {
    let mut key = [0; 20];
    key[..16].copy_from_slice(&address.0);
    key[16..18].copy_from_slice(&port.0);
    key[18] = protocol;
    key
}

/// A map used as a set of keys, and its current keys.
struct KeySet<const N: usize> {
    name: &'static str,
    map: HashMap<MapData, [u8; N], u8>,
    keys: BTreeSet<[u8; N]>,
}

impl<const N: usize> KeySet<N> {
    fn open(name: &'static str, map: Map) -> Result<Self, RedirectError> {
        let map: HashMap<MapData, [u8; N], u8> = HashMap::try_from(map).map_err(map_error(name))?;
        let keys = map.keys().collect::<Result<_, _>>().map_err(map_error(name))?;
        Ok(Self { name, map, keys })
    }

    /// Adds new keys, then removes old ones; in a full map, the other way round. `keys` is updated after each step, so that
    /// after a failure the next call continues from what the map holds.
    fn replace(&mut self, wanted: BTreeSet<[u8; N]>) -> Result<(), RedirectError> {
        let added = self.add(&wanted);
        self.keep_only(&wanted)?;
        match added {
            Err(RedirectError::Full { .. }) => self.add(&wanted),
            added => added,
        }
    }

    fn add(&mut self, wanted: &BTreeSet<[u8; N]>) -> Result<(), RedirectError> {
        let new: Vec<_> = wanted.difference(&self.keys).copied().collect();
        for key in new {
            self.map.insert(key, 1, 0).map_err(|error| self.refusal(error))?;
            self.keys.insert(key);
        }
        Ok(())
    }

    fn keep_only(&mut self, wanted: &BTreeSet<[u8; N]>) -> Result<(), RedirectError> {
        let gone: Vec<_> = self.keys.difference(wanted).copied().collect();
        for key in gone {
            match self.map.remove(&key) {
                // Removed by another program.
                Err(error) if errno(&error) == Some(libc::ENOENT) => {}
                removed => removed.map_err(|error| self.refusal(error))?,
            }
            self.keys.remove(&key);
        }
        Ok(())
    }

    fn refusal(&self, error: MapError) -> RedirectError {
        match errno(&error) {
            Some(libc::E2BIG) => RedirectError::Full { map: self.name },
            _ => map_error(self.name)(error),
        }
    }
}

fn errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    }
}
