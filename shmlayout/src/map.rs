//! Creates, opens and maps shared memory, and turns mapped bytes into references. No other file does.
//!
//! A mapping exists until its process ends, so views of it are `'static`. Viewed types consist of atomics only (`Shared`),
//! because other processes write them; the header guarantees matching sizes and offsets.
//!
//! **Loads from read-only mappings.** Rust defines only relaxed loads as atomic accesses to read-only memory, up to 64 bits on
//! x86-64 and aarch64 (`core::sync::atomic`, "Atomic accesses to read-only memory"); Shunt has no wider ones. An acquire load
//! is a relaxed load and a fence, as that page advises (`Word::load`). Even a failed compare and exchange may write, so a
//! reader's type has loads only.
#![allow(unsafe_code)]

use crate::access::{Access, Lends, Writer};
use crate::header::{AttachError, Header, Kind, boot_id};
use crate::layout::{Described, Part};
use crate::record::Record;
use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FallocateFlags, OFlag};
use nix::sys::stat::{Mode, fstat};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use zerocopy::FromBytes;

/// A type that may be viewed in shared memory. Every byte belongs to an atomic ([`crate::layout::Layout::is_atomic`]).
///
/// # Safety
/// Every bit pattern is a valid value, and `LAYOUT` is correct. The layout is the same for every access. Unless `WRITES`, the
/// type's safe methods only load from shared memory.
pub unsafe trait Shared: FromBytes + Described {
    /// Whether the type has storing methods.
    const WRITES: bool;
}

macro_rules! shared {
    ($($path:path as $Type:ident<$($A:ident $B:ident),*>),* $(,)?) => { $(
        const _: () = {
            use $path as $Type;
            // SAFETY: zerocopy's derive of FromBytes proves the bit patterns. The access is phantom data in the cells, whose
            // storing methods exist for Writer only (word.rs, record.rs).
            unsafe impl<$($A: Access),*> Shared for $Type<$($A),*> {
                const WRITES: bool = false $(|| $A::WRITES)*;
            }
            impl<$($A: Lends<$B>, $B),*> Lends<$Type<$($B),*>> for $Type<$($A),*> {}
        };
    )* };
}

shared!(
    crate::header::Header as Header<A B>,
    crate::word::Word8 as Word8<A B>,
    crate::word::Word16 as Word16<A B>,
    crate::word::Word32 as Word32<A B>,
    crate::word::Word as Word<A B>,
    crate::record::Counter as Counter<A B>,
    crate::ring::RingHead as RingHead<P Q, C D>,
    crate::neighbours::Neighbour as Neighbour<A B>,
    crate::replay::ReplayPlace as ReplayPlace<A B>,
    crate::config_table::GenerationHead as GenerationHead<A B>,
    crate::connections::Entry as Entry<A B>,
    crate::connections::Bucket as Bucket<A B>,
    crate::regions::ControlHead as ControlHead<A B>,
    crate::regions::ConnectionsHead as ConnectionsHead<A B>,
    crate::regions::KeeperHead as KeeperHead<A B>,
    crate::regions::SwitcherHead as SwitcherHead<A B>,
    crate::regions::ServiceCounters as ServiceCounters<A B>,
    crate::regions::BackendCounters as BackendCounters<A B>,
    crate::regions::InterfaceCounters as InterfaceCounters<A B>,
    crate::regions::SocketReading as SocketReading<A B>,
    crate::store::StoreEnds as StoreEnds<P Q, C D>,
    crate::store::PacketCell as PacketCell<A B>,
    crate::regions::StoreSwitcher as StoreSwitcher<A B>,
    crate::regions::StoreDaemon as StoreDaemon<A B>,
    crate::regions::IfdaemonHead as IfdaemonHead<A B>,
);

// SAFETY: as above.
unsafe impl<T: FromBytes + Described, const WORDS: usize, A: Access> Shared for Record<T, WORDS, A> {
    const WRITES: bool = A::WRITES;
}
impl<T, const WORDS: usize, A: Lends<B>, B> Lends<Record<T, WORDS, B>> for Record<T, WORDS, A> {}

/// How memory is mapped, derived from the type of the attached region (`regions::Typed::MAPPING`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mapping {
    /// Read-only: a store would fault, and readers' types have no storing methods.
    ReadOnly,
    /// Readable and writable.
    Writable,
}

/// A mapped region.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    base: *const u8,
    length: usize,
    mapping: Mapping,
}

// SAFETY: a region is an address range that stays mapped, and it gives out references to atomics only.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

// Loads from read-only memory: see the module documentation.
const _: () = assert!(size_of::<usize>() == size_of::<u64>());

/// Bytes of a cache line, to which every part of a region is aligned.
pub const LINE: usize = 64;

/// Lays out the parts of a region in order, each on its own cache lines.
pub struct Parts {
    region: Option<Region>,
    offset: usize,
    taken: Vec<Part>,
}

impl Parts {
    /// Measures parts without memory.
    pub fn measure() -> Self {
        Self { region: None, offset: 0, taken: Vec::new() }
    }

    /// Takes the next `count` values. Returns an empty slice while measuring and if the region is too short.
    pub fn take<T: Shared>(&mut self, count: usize) -> &'static [T] {
        let bytes = count.saturating_mul(size_of::<T>());
        let start = self.offset;
        self.taken.push(Part { offset: start, count, layout: T::LAYOUT });
        self.offset = start.saturating_add(bytes).next_multiple_of(LINE);
        self.region.map_or(&[], |region| region.view(start, count))
    }

    /// Takes the next value.
    pub fn one<T: Shared>(&mut self) -> Option<&'static T> {
        self.take(1).first()
    }

    /// Bytes taken so far.
    pub fn length(&self) -> usize {
        self.offset
    }

    /// The parts taken so far.
    pub fn taken(&self) -> &[Part] {
        &self.taken
    }
}

fn path_of(name: &str) -> PathBuf {
    Path::new("/dev/shm").join(name.trim_start_matches('/'))
}

impl Region {
    /// Creates a zeroed region (`shm_open`, exclusive, mode 0600), reserves its memory and writes its header. It becomes ready
    /// with [`Region::make_ready`].
    pub fn create(name: &str, kind: Kind, layout_hash: u64, length: usize) -> Result<(Self, OwnedFd), AttachError> {
        let system = |what| move |source: io::Error| AttachError::System { path: path_of(name), what, source };
        let mut created = shared_memory::ShmemConf::new()
            .os_id(name)
            .size(length)
            .create()
            .map_err(|e| system("create")(io::Error::other(e)))?;
        created.set_owner(false); // otherwise dropping it would unlink the region while others are attached
        let fd = open(name, Mapping::Writable)?;
        // Without this, a full /dev/shm would cause SIGBUS at the first access to a page.
        nix::fcntl::fallocate(&fd, FallocateFlags::empty(), 0, length as i64).map_err(|errno| {
            let _ = nix::sys::mman::shm_unlink(name);
            system("reserve its memory (is /dev/shm too small?)")(errno.into())
        })?;
        let region = Self::map(&fd, Mapping::Writable).map_err(system("map"))?;
        let header: &Header<Writer> =
            region.header().ok_or_else(|| system("map")(io::Error::other("shorter than a header")))?;
        header.describe(kind, layout_hash, region.length).map_err(system("read the boot id"))?;
        Ok((region, fd))
    }

    /// Opens a region by name and checks it: no symbolic link, owned by this user or root, mode 0600, matching header.
    pub fn attach(name: &str, kind: Kind, layout_hash: u64, mapping: Mapping) -> Result<(Self, OwnedFd), AttachError> {
        let fd = open(name, mapping)?;
        let path = path_of(name);
        let system = |what| move |source: io::Error| AttachError::System { path: path_of(name), what, source };
        let stat = fstat(&fd).map_err(|e| system("get its status")(e.into()))?;
        let field = |field, found: String, expected: String| AttachError::Field {
            path: path.clone(),
            field,
            found,
            expected,
            advice: "another user or program created it: remove the file, or use another instance name",
        };
        let me = nix::unistd::geteuid().as_raw();
        if stat.st_uid != me && stat.st_uid != 0 {
            return Err(field("owner", stat.st_uid.to_string(), me.to_string()));
        }
        if stat.st_mode & 0o777 != 0o600 {
            return Err(field("permission", format!("{:o}", stat.st_mode & 0o777), "600".into()));
        }
        let region = Self::from_fd(&fd, &path, kind, layout_hash, mapping)?;
        Ok((region, fd))
    }

    /// Maps a region by a received descriptor and checks its header.
    pub fn from_fd(
        fd: &OwnedFd,
        path: &Path,
        kind: Kind,
        layout_hash: u64,
        mapping: Mapping,
    ) -> Result<Self, AttachError> {
        let region = Self::map(fd, mapping).map_err(|source| AttachError::System {
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
        let header: &Header = region.header().ok_or_else(|| {
            let least = size_of::<Header>().to_string();
            field((
                "size",
                region.length.to_string(),
                format!("at least {least}"),
                "it is not Shunt's: remove the file",
            ))
        })?;
        let unknown = |source| AttachError::System { path: path.into(), what: "read the boot id", source };
        header.check(kind, layout_hash, region.length, boot_id().map_err(unknown)?).map_err(field)?;
        Ok(region)
    }

    /// Creates a zeroed private region for tests and benchmarks, in huge pages if available.
    pub fn anonymous(kind: Kind, layout_hash: u64, length: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(length.max(LINE)).map_anon()?;
        // An optimization only: huge pages, populated now.
        let _ = map.advise(memmap2::Advice::HugePage).and_then(|()| map.advise(memmap2::Advice::PopulateWrite));
        Self::private(map.into(), kind, layout_hash, length)
    }

    /// Creates a private region that is used only in part: only written pages take memory.
    pub fn scratch(kind: Kind, layout_hash: u64, length: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(length.max(LINE)).no_reserve_swap().map_anon()?;
        Self::private(map.into(), kind, layout_hash, length)
    }

    fn private(map: MmapRaw, kind: Kind, layout_hash: u64, length: usize) -> io::Result<Self> {
        let region = Self { base: map.as_mut_ptr(), length: map.len(), mapping: Mapping::Writable };
        std::mem::forget(map);
        if let Some(header) = region.header::<Writer>() {
            header.describe(kind, layout_hash, length)?;
            header.make_ready();
        }
        Ok(region)
    }

    /// Marks the region as complete.
    pub fn make_ready(&self) {
        if let Some(header) = self.header::<Writer>() {
            header.make_ready();
        }
    }

    /// Removes the name; existing mappings stay valid.
    pub fn unlink(name: &str) -> io::Result<()> {
        nix::sys::mman::shm_unlink(name).map_err(io::Error::from)
    }

    /// The region's parts from the beginning, header included.
    pub fn parts(&self) -> Parts {
        Parts { region: Some(*self), offset: 0, taken: Vec::new() }
    }

    /// Mapped length, bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    fn header<A: Access>(&self) -> Option<&'static Header<A>> {
        self.view(0, 1).first()
    }

    fn map(fd: &OwnedFd, mapping: Mapping) -> io::Result<Self> {
        let file = File::from(fd.try_clone()?);
        let mut options = MmapOptions::new();
        options.populate(); // avoids page faults on the packet path
        let map = match mapping {
            Mapping::ReadOnly => options.map_raw_read_only(&file)?,
            Mapping::Writable => options.map_raw(&file)?,
        };
        let region = Self { base: map.as_mut_ptr(), length: map.len(), mapping };
        std::mem::forget(map);
        Ok(region)
    }

    fn view<T: Shared>(&self, offset: usize, count: usize) -> &'static [T] {
        let end = count.checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_add(offset));
        const { assert!(T::LAYOUT.is_atomic) };
        let permitted = !T::WRITES || self.mapping == Mapping::Writable;
        let aligned = (self.base as usize).wrapping_add(offset).is_multiple_of(align_of::<T>());
        if !permitted || !aligned || end.is_none_or(|end| end > self.length) {
            return &[];
        }
        // SAFETY: the range is inside the mapping, which is never unmapped, and aligned for T. T: Shared, so any bytes are a
        // valid T, and other processes write atomics only. A T with storing methods is in a writable mapping; any other T
        // only loads, which is defined for read-only memory (see the module documentation).
        unsafe { std::slice::from_raw_parts(self.base.add(offset).cast::<T>(), count) }
    }
}

/// The same memory with equal or fewer rights, for example those of a reader.
pub fn lend<T: Shared + Lends<U>, U: Shared>(of: &[T]) -> &[U] {
    const { assert!(size_of::<T>() == size_of::<U>() && align_of::<T>() == align_of::<U>()) };
    // SAFETY: by Lends, T and U differ only in the access, which takes no space, and U's rights are among T's.
    unsafe { std::slice::from_raw_parts(of.as_ptr().cast::<U>(), of.len()) }
}

/// [`lend`] of a single value.
pub fn lend_one<T: Shared + Lends<U>, U: Shared>(of: &T) -> &U {
    const { assert!(size_of::<T>() == size_of::<U>() && align_of::<T>() == align_of::<U>()) };
    // SAFETY: as above.
    unsafe { &*std::ptr::from_ref(of).cast::<U>() }
}

fn open(name: &str, mapping: Mapping) -> Result<OwnedFd, AttachError> {
    let flag = if mapping == Mapping::ReadOnly { OFlag::O_RDONLY } else { OFlag::O_RDWR };
    // glibc adds O_NOFOLLOW and O_CLOEXEC: a symbolic link is refused with ELOOP.
    nix::sys::mman::shm_open(name, flag, Mode::empty()).map_err(|errno| match errno {
        nix::errno::Errno::ENOENT => AttachError::Missing(path_of(name)),
        errno => AttachError::System { path: path_of(name), what: "open", source: errno.into() },
    })
}

/// Opens a second, read-only descriptor of a region, to hand to readers.
pub fn read_only(name: &str) -> Result<OwnedFd, AttachError> {
    open(name, Mapping::ReadOnly)
}
