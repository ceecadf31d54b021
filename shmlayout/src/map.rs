//! The only file that creates, opens and maps shared memory, and that turns mapped bytes into references.
//!
//! A mapping stays until its process ends, so that views of it are `'static`. What is viewed is made of atomics alone
//! (`Shared`), because other processes write it; the header says that sizes and offsets agree.
//!
//! **Loads from read-only mappings.** Of atomic accesses to read-only memory, Rust defines relaxed loads alone, up to 64 bits
//! on x86-64 and aarch64 (`core::sync::atomic`, "Atomic accesses to read-only memory"); Shunt has no wider ones. An acquire
//! load is a relaxed one and a fence, as that page advises (`Word::load`). A failed compare and exchange may write, though
//! it changes nothing, so a reader's type has loads, and no other access at all.
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

/// What may be viewed in shared memory. Its layout says that every byte belongs to an atomic
/// ([`crate::layout::Layout::is_atomic`]).
///
/// # Safety
/// Every bit pattern is a value of it, and its layout tells the truth. With another access it has the same layout, and
/// unless `WRITES` its safe methods do nothing to shared memory but load.
pub unsafe trait Shared: FromBytes + Described {
    /// Whether it has methods that store.
    const WRITES: bool;
}

macro_rules! shared {
    ($($path:path as $Type:ident<$($A:ident $B:ident),*>),* $(,)?) => { $(
        const _: () = {
            use $path as $Type;
            // SAFETY: zerocopy's derive of FromBytes proves the bit patterns. The access is phantom data in its cells, whose
            // methods that store exist for Writer alone (word.rs, record.rs).
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

/// How memory is mapped. It follows from the type of the region that is attached (`regions::Typed::MAPPING`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mapping {
    /// Read-only: a store would end the process, and readers' types have no method that stores.
    ReadOnly,
    /// For reading and writing.
    Writable,
}

/// A mapped region.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    base: *const u8,
    length: usize,
    mapping: Mapping,
}

// SAFETY: a region is an address range that stays mapped; what it hands out is made of atomics.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

// Loads from read-only memory: see the top.
const _: () = assert!(size_of::<usize>() == size_of::<u64>());

/// Cache line: what every part of a region is aligned to.
pub const LINE: usize = 64;

/// Where the parts of a region are, one after the other, each on its own cache lines.
pub struct Parts {
    region: Option<Region>,
    offset: usize,
    taken: Vec<Part>,
}

impl Parts {
    /// Counts the bytes that parts need, without memory.
    pub fn measure() -> Self {
        Self { region: None, offset: 0, taken: Vec::new() }
    }

    /// The next `count` values. Empty while only measuring, and where the region is too short.
    pub fn take<T: Shared>(&mut self, count: usize) -> &'static [T] {
        let bytes = count.saturating_mul(size_of::<T>());
        let start = self.offset;
        self.taken.push(Part { offset: start, count, layout: T::LAYOUT });
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

    /// What was taken.
    pub fn taken(&self) -> &[Part] {
        &self.taken
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
        let fd = open(name, Mapping::Writable)?;
        // Without this a full /dev/shm would show as SIGBUS at the first touch of a page.
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

    /// Opens a region by name and checks it: no symbolic link, our own, closed to others, and a header that fits.
    pub fn attach(name: &str, kind: Kind, layout_hash: u64, mapping: Mapping) -> Result<(Self, OwnedFd), AttachError> {
        let fd = open(name, mapping)?;
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
        let region = Self::from_fd(&fd, &path, kind, layout_hash, mapping)?;
        Ok((region, fd))
    }

    /// Maps a region by a descriptor that was handed over, and checks its header.
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
            field(("size", region.length.to_string(), format!("at least {least}"), "it isn't Shunt's: remove the file"))
        })?;
        let unknown = |source| AttachError::System { path: path.into(), what: "learn which boot this is", source };
        header.check(kind, layout_hash, region.length, boot_id().map_err(unknown)?).map_err(field)?;
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
        let region = Self { base: map.as_mut_ptr(), length: map.len(), mapping: Mapping::Writable };
        std::mem::forget(map);
        if let Some(header) = region.header::<Writer>() {
            header.describe(kind, layout_hash, length)?;
            header.make_ready();
        }
        Ok(region)
    }

    /// Says that everything in it is written.
    pub fn make_ready(&self) {
        if let Some(header) = self.header::<Writer>() {
            header.make_ready();
        }
    }

    /// Removes the name; whoever has it mapped keeps it.
    pub fn unlink(name: &str) -> io::Result<()> {
        nix::sys::mman::shm_unlink(name).map_err(io::Error::from)
    }

    /// Its parts from the beginning, header included.
    pub fn parts(&self) -> Parts {
        Parts { region: Some(*self), offset: 0, taken: Vec::new() }
    }

    /// Bytes mapped.
    pub fn length(&self) -> usize {
        self.length
    }

    fn header<A: Access>(&self) -> Option<&'static Header<A>> {
        self.view(0, 1).first()
    }

    fn map(fd: &OwnedFd, mapping: Mapping) -> io::Result<Self> {
        let file = File::from(fd.try_clone()?);
        let mut options = MmapOptions::new();
        options.populate(); // a first touch later would cost a page fault on the packet path
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
        let may = !T::WRITES || self.mapping == Mapping::Writable;
        let aligned = (self.base as usize).wrapping_add(offset).is_multiple_of(align_of::<T>());
        if !may || !aligned || end.is_none_or(|end| end > self.length) {
            return &[];
        }
        // SAFETY: the range is inside the mapping, which is never unmapped, and aligned for T; T: Shared, so any bytes
        // are a T, and other processes' writes meet atomics only. A T that stores is in a writable mapping. One that doesn't
        // only loads, which is defined for read-only memory (see the top).
        unsafe { std::slice::from_raw_parts(self.base.add(offset).cast::<T>(), count) }
    }
}

/// The same memory with no more rights, for example as its reader has it.
pub fn lend<T: Shared + Lends<U>, U: Shared>(of: &[T]) -> &[U] {
    const { assert!(size_of::<T>() == size_of::<U>() && align_of::<T>() == align_of::<U>()) };
    // SAFETY: by Lends, T and U differ in the access alone, which takes no space, and U's is one of T's.
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

/// A second descriptor of the same region, opened read-only: what readers are handed.
pub fn read_only(name: &str) -> Result<OwnedFd, AttachError> {
    open(name, Mapping::ReadOnly)
}
