//! The connections region: the connection table, written by all switchers, read by control and `shunt`.

use super::{Typed, Whole, mapping};
use crate::access::{Access, Lends, Reader, Writer};
use crate::connections::{Bucket, CHUNK, Connections, ENTRIES_MAX, Entry, HashKey};
use crate::header::Kind;
use crate::layout::described;
use crate::map::{Mapping, Parts, lend, lend_one};
use crate::record::Counter;
use crate::word::Word32;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Capacities of the region.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct ConnectionsShape {
    /// Connections; a multiple of [`CHUNK`].
    pub capacity: u64,
    /// Buckets in each of the two indexes.
    pub buckets: u64,
    /// Reserved.
    pub reserved: [u64; 6],
}

described!(ConnectionsShape { capacity, buckets, reserved });

impl ConnectionsShape {
    /// Derived from the configuration's limit, rounded up to whole chunks, with 4.25 connections per bucket of 7 slots.
    pub fn new(connections: u32) -> Self {
        let capacity = u64::from(connections.max(1)).next_multiple_of(CHUNK as u64);
        Self { capacity, buckets: (capacity * 4).div_ceil(17), reserved: [0; 6] }
    }
}

/// The secret key of the table's hash, written before the region is ready.
#[repr(C, align(64))]
#[derive(FromBytes)]
pub struct ConnectionsHead<A = Reader> {
    key: [Counter<A>; 2],
    _reserved: [Counter<A>; 6],
}

described!(ConnectionsHead<A> { key, _reserved });

/// A view of the connections region.
#[derive(Clone, Copy)]
pub struct ConnectionsRegion<A: Access = Reader> {
    head: &'static ConnectionsHead<A>,
    entries: &'static [Entry<A>],
    client: &'static [Bucket<A>],
    backend: &'static [Bucket<A>],
    owners: &'static [Word32<A>],
}

impl ConnectionsRegion<Writer> {
    /// Sets the secret key. Creator only, before the region is ready.
    pub fn set_key(&self, key: [u64; 2]) {
        self.head.key[0].set(key[0]);
        self.head.key[1].set(key[1]);
    }
}

impl<A: Access> ConnectionsRegion<A> {
    /// A view of the table; `None` if its parts are inconsistent.
    pub fn table(&self) -> Option<Connections<'static, A>> {
        let key = HashKey([self.head.key[0].get(), self.head.key[1].get()]);
        Connections::new(self.entries, self.client, self.backend, self.owners, key)
    }
}

impl<A: Access> ConnectionsRegion<A> {
    /// The same region with equal or fewer rights.
    pub fn lend<B: Access>(&self) -> ConnectionsRegion<B>
    where
        A: Lends<B>,
    {
        ConnectionsRegion {
            head: lend_one(self.head),
            entries: lend(self.entries),
            client: lend(self.client),
            backend: lend(self.backend),
            owners: lend(self.owners),
        }
    }
}

impl Whole for ConnectionsRegion<Writer> {}

impl<A: Access> Typed for ConnectionsRegion<A> {
    const KIND: Kind = Kind::Connections;
    const MAPPING: Mapping = mapping(A::WRITES);
    type Shape = ConnectionsShape;

    fn carve(parts: &mut Parts, shape: &ConnectionsShape) -> Option<Self> {
        let head = parts.one();
        let entries = parts.take(shape.capacity as usize);
        let client = parts.take(shape.buckets as usize);
        let backend = parts.take(shape.buckets as usize);
        let owners = parts.take(shape.capacity as usize / CHUNK);
        Some(Self { head: head?, entries, client, backend, owners })
    }

    fn fault(shape: &ConnectionsShape) -> Option<&'static str> {
        let most = ENTRIES_MAX as u64;
        let capacity = shape.capacity == 0 || shape.capacity > most || !shape.capacity.is_multiple_of(CHUNK as u64);
        let buckets = shape.buckets == 0 || shape.buckets > most;
        capacity.then_some("capacity").or(buckets.then_some("buckets"))
    }
}

const _: () = assert!(size_of::<Entry>() == 64 && size_of::<Bucket>() == 64);
