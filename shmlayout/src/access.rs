//! Access rights as types: readers and writers of shared memory are different types.
//!
//! Every cell of shared memory ([`crate::word`], [`crate::record`]) has an access as its type parameter, and so has every
//! structure made of cells, up to the regions. A cell has storing methods only if its access is [`Writer`]. A region with
//! two writing processes has one parameter for each. The default access is [`Reader`].
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

/// Read access. The memory may be mapped read-only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reader;

/// Read and write access, for the only writer of a field or for writers that synchronize by compare and exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Writer;

/// [`Reader`] or [`Writer`].
pub trait Access: Copy + Send + Sync + 'static + Lends<Self> + Lends<Reader> {
    /// Whether this access needs a writable mapping.
    const WRITES: bool;
}

impl Access for Reader {
    const WRITES: bool = false;
}

impl Access for Writer {
    const WRITES: bool = true;
}

/// Marks `To` as the same type with equal or fewer rights: a writer can become a reader, never the reverse.
///
/// `map.rs` implements it for types in shared memory. They differ only in the access, which takes no space.
pub trait Lends<To> {}

impl Lends<Reader> for Reader {}
impl Lends<Reader> for Writer {}
impl Lends<Writer> for Writer {}
