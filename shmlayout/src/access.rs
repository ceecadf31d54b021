//! Who may write what: readers and writers of shared memory are different types.
//!
//! Every cell of shared memory ([`crate::word`], [`crate::record`]) has an access as its type parameter, and so has all
//! that is made of cells, up to the regions. A cell has methods that store only where that is [`Writer`]. A region that
//! two processes write has a parameter for each of them. Without a parameter, a type is the reader's.
//!
//! ```
//! use shunt_shmlayout::access::Writer;
//! fn count(counters: &shunt_shmlayout::regions::ServiceCounters<Writer>) {
//!     counters.packets_in.add(1);
//! }
//! ```
//! ```compile_fail,E0599
//! use shunt_shmlayout::access::Reader;
//! fn count(counters: &shunt_shmlayout::regions::ServiceCounters<Reader>) {
//!     counters.packets_in.add(1);
//! }
//! ```
//! ```compile_fail,E0277
//! use shunt_shmlayout::access::{Reader, Writer};
//! fn steal(region: &shunt_shmlayout::regions::KeeperRegion<Reader>) {
//!     region.lend::<Writer>();
//! }
//! ```

/// Reads. Its memory may be mapped read-only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reader;

/// Reads and writes: the one writer of a field, or one of those that agree by compare and exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Writer;

/// [`Reader`] or [`Writer`].
pub trait Access: Copy + Send + Sync + 'static + Lends<Self> + Lends<Reader> {
    /// Whether it needs a writable mapping.
    const WRITES: bool;
}

impl Access for Reader {
    const WRITES: bool = false;
}

impl Access for Writer {
    const WRITES: bool = true;
}

/// That `To` is the same with no more rights: a writer can be a reader, never the other way round.
///
/// For types in shared memory, `map.rs` implements it; they differ in the access alone, which takes no space.
pub trait Lends<To> {}

impl Lends<Reader> for Reader {}
impl Lends<Reader> for Writer {}
impl Lends<Writer> for Writer {}
