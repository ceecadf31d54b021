//! The only file that creates, opens and maps shared memory, and that turns mapped bytes into references.
//!
//! A mapping stays until its process ends, so that views of it are `'static`. What is viewed is made of atomics alone
//! (`Shared`), because other processes write it; the header says that sizes and offsets agree.
#![allow(unsafe_code)]

use crate::header::{AttachError, Header, Kind};
use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FallocateFlags, OFlag};
use nix::sys::stat::{Mode, fstat};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use zerocopy::{FromBytes, KnownLayout};

/// What may be viewed in shared memory.
///
/// # Safety
/// Every byte of the type belongs to an atomic, and every bit pattern is a value of it.
pub unsafe trait Shared: FromBytes + KnownLayout {}

macro_rules! shared {
    ($($type:ty),* $(,)?) => { $(
        // SAFETY: made of atomics only (see its definition); zerocopy's derive of FromBytes proves the bit patterns.
        unsafe impl Shared for $type {}
    )* };
}

shared!(
    Header,
    crate::sync::AtomicU8,
    crate::sync::AtomicU16,
    crate::sync::AtomicU32,
    crate::sync::AtomicU64,
    crate::record::Counter,
    crate::record::Record<1>,
    crate::record::Record<4>,
    crate::record::Record<8>,
    crate::ring::RingHead,
    crate::neighbours::Neighbour,
    crate::replay::ReplayPlace,
    crate::config_table::GenerationHead,
    crate::connections::Entry,
    crate::connections::Bucket,
    crate::regions::ControlHead,
    crate::regions::ConnectionsHead,
    crate::regions::KeeperHead,
    crate::regions::SwitcherHead,
    crate::regions::ServiceCounters,
    crate::regions::BackendCounters,
    crate::regions::InterfaceCounters,
    crate::regions::SocketReading,
    crate::store::StoreEnds,
    crate::store::PacketCell,
    crate::regions::StoreSwitcher,
    crate::regions::StoreDaemon,
    crate::regions::IfdaemonHead,
);

/// Whether a mapping may be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Mapped read-only: a store would end the process, and no safe code of ours can make one through a reader's API.
    Read,
    /// Mapped for reading and writing.
    Write,
}

/// A mapped region.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    base: *const u8,
    length: usize,
}

// SAFETY: a region is an address range that stays mapped; what it hands out is made of atomics.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

/// Cache line: what every part of a region is aligned to.
pub const LINE: usize = 64;

/// Where the parts of a region are, one after the other, each on its own cache lines.
pub struct Parts {
    region: Option<Region>,
    offset: usize,
}

impl Parts {
    /// Counts the bytes that parts need, without memory.
    pub fn measure() -> Self {
        Self { region: None, offset: 0 }
    }

    /// The next `count` values. Empty while only measuring, and where the region is too short.
    pub fn take<T: Shared>(&mut self, count: usize) -> &'static [T] {
        let bytes = count.saturating_mul(size_of::<T>());
        let start = self.offset;
        self.offset = start.saturating_add(bytes).next_multiple_of(LINE);
        self.region.map_or(&[], |region| region.view(start, count))
    }

    /// The next value.
    pub fn one<T: Shared>(&mut self) -> Option<&'static T> {
        self.take(1).first()
    }

    /// Bytes up to here.
    pub fn length(&self) -> usize {
        self.offset
    }
}

fn path_of(name: &str) -> PathBuf {
    Path::new("/dev/shm").join(name.trim_start_matches('/'))
}

impl Region {
    /// Creates a region (`shm_open`, exclusive, mode 0600), reserves its memory, and describes it; it becomes ready with
    /// [`Region::make_ready`]. What it holds is zero.
    pub fn create(name: &str, kind: Kind, layout_hash: u64, length: usize) -> Result<(Self, OwnedFd), AttachError> {
        let system = |what| move |source: io::Error| AttachError::System { path: path_of(name), what, source };
        let mut made = shared_memory::ShmemConf::new()
            .os_id(name)
            .size(length)
            .create()
            .map_err(|e| system("create")(io::Error::other(e)))?;
        made.set_owner(false); // else it would be unlinked with this value, while others are attached
        let fd = open(name, Access::Write)?;
        // Without this a full /dev/shm would show as SIGBUS at the first touch of a page.
        nix::fcntl::fallocate(&fd, FallocateFlags::empty(), 0, length as i64).map_err(|errno| {
            let _ = nix::sys::mman::shm_unlink(name);
            system("reserve its memory (is /dev/shm too small?)")(errno.into())
        })?;
        let region = Self::map(&fd, Access::Write).map_err(system("map"))?;
        let header = region.header().ok_or_else(|| system("map")(io::Error::other("shorter than a header")))?;
        header.describe(kind, layout_hash, region.length).map_err(system("read the boot id"))?;
        Ok((region, fd))
    }

    /// Opens a region by name and checks it: no symbolic link, our own, closed to others, and a header that fits.
    pub fn attach(name: &str, kind: Kind, layout_hash: u64, access: Access) -> Result<(Self, OwnedFd), AttachError> {
        let fd = open(name, access)?;
        let path = path_of(name);
        let system = |what| move |source: io::Error| AttachError::System { path: path_of(name), what, source };
        let stat = fstat(&fd).map_err(|e| system("look at")(e.into()))?;
        let field = |field, found: String, expected: String| AttachError::Field {
            path: path.clone(),
            field,
            found,
            expected,
            advice: "somebody else made it: remove the file, or use another instance name",
        };
        let me = nix::unistd::geteuid().as_raw();
        if stat.st_uid != me && stat.st_uid != 0 {
            return Err(field("owner", stat.st_uid.to_string(), me.to_string()));
        }
        if stat.st_mode & 0o777 != 0o600 {
            return Err(field("permission", format!("{:o}", stat.st_mode & 0o777), "600".into()));
        }
        let region = Self::from_fd(&fd, &path, kind, layout_hash, access)?;
        Ok((region, fd))
    }

    /// Maps a region by a descriptor that was handed over, and checks its header.
    pub fn from_fd(
        fd: &OwnedFd,
        path: &Path,
        kind: Kind,
        layout_hash: u64,
        access: Access,
    ) -> Result<Self, AttachError> {
        let region = Self::map(fd, access).map_err(|source| AttachError::System {
            path: path.to_owned(),
            what: "map",
            source,
        })?;
        let field = |(field, found, expected, advice)| AttachError::Field {
            path: path.to_owned(),
            field,
            found,
            expected,
            advice,
        };
        let header = region.header().ok_or_else(|| {
            let least = size_of::<Header>().to_string();
            field(("size", region.length.to_string(), format!("at least {least}"), "it isn't Shunt's: remove the file"))
        })?;
        header.check(kind, layout_hash, region.length).map_err(field)?;
        Ok(region)
    }

    /// Memory of this process alone, zeroed, for tests and benchmarks; in huge pages where the system gives them.
    pub fn anonymous(kind: Kind, layout_hash: u64, length: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(length.max(LINE)).map_anon()?;
        // Only faster, never needed: huge pages, and none of them first touched later.
        let _ = map.advise(memmap2::Advice::HugePage).and_then(|()| map.advise(memmap2::Advice::PopulateWrite));
        Self::of_own(map.into(), kind, layout_hash, length)
    }

    /// The same for memory of which only a part will be used: it takes no more pages than are written.
    pub fn scratch(kind: Kind, layout_hash: u64, length: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(length.max(LINE)).no_reserve_swap().map_anon()?;
        Self::of_own(map.into(), kind, layout_hash, length)
    }

    fn of_own(map: MmapRaw, kind: Kind, layout_hash: u64, length: usize) -> io::Result<Self> {
        let region = Self { base: map.as_mut_ptr(), length: map.len() };
        std::mem::forget(map);
        if let Some(header) = region.header() {
            header.describe(kind, layout_hash, length)?;
            header.make_ready();
        }
        Ok(region)
    }

    /// Says that everything in it is written.
    pub fn make_ready(&self) {
        if let Some(header) = self.header() {
            header.make_ready();
        }
    }

    /// Removes the name; whoever has it mapped keeps it.
    pub fn unlink(name: &str) -> io::Result<()> {
        nix::sys::mman::shm_unlink(name).map_err(io::Error::from)
    }

    /// Its parts from the beginning, header included.
    pub fn parts(&self) -> Parts {
        Parts { region: Some(*self), offset: 0 }
    }

    /// Bytes mapped.
    pub fn length(&self) -> usize {
        self.length
    }

    fn header(&self) -> Option<&'static Header> {
        self.view(0, 1).first()
    }

    fn map(fd: &OwnedFd, access: Access) -> io::Result<Self> {
        let file = File::from(fd.try_clone()?);
        let mut options = MmapOptions::new();
        options.populate(); // a first touch later would cost a page fault on the packet path
        let map = match access {
            Access::Read => options.map_raw_read_only(&file)?,
            Access::Write => options.map_raw(&file)?,
        };
        let region = Self { base: map.as_mut_ptr(), length: map.len() };
        std::mem::forget(map);
        Ok(region)
    }

    fn view<T: Shared>(&self, offset: usize, count: usize) -> &'static [T] {
        let end = count.checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_add(offset));
        let aligned = (self.base as usize).wrapping_add(offset).is_multiple_of(align_of::<T>());
        if !aligned || end.is_none_or(|end| end > self.length) {
            return &[];
        }
        // SAFETY: the range is inside the mapping, which is never unmapped, and aligned for T; T: Shared, so any bytes
        // are a T, and other processes' writes meet atomics only. Stores through a read-only mapping can't be undefined
        // behaviour, they end the process; readers' code makes none.
        unsafe { std::slice::from_raw_parts(self.base.add(offset).cast::<T>(), count) }
    }
}

fn open(name: &str, access: Access) -> Result<OwnedFd, AttachError> {
    let flag = if access == Access::Read { OFlag::O_RDONLY } else { OFlag::O_RDWR };
    // glibc adds O_NOFOLLOW and O_CLOEXEC: a symbolic link is refused with ELOOP.
    nix::sys::mman::shm_open(name, flag, Mode::empty()).map_err(|errno| match errno {
        nix::errno::Errno::ENOENT => AttachError::Missing(path_of(name)),
        errno => AttachError::System { path: path_of(name), what: "open", source: errno.into() },
    })
}

/// A second descriptor of the same region, opened read-only: what readers are handed.
pub fn read_only(name: &str) -> Result<OwnedFd, AttachError> {
    open(name, Access::Read)
}
