//! The shared view of the connection table: find, update, unlink, iterate.

use super::activity::{Activity, LastHop, State};
use super::entry::{Entry, EntryGeneration, Rival, Snapshot};
use super::hash::{HashKey, Key, Side};
use super::index::{Bucket, ENTRIES_MAX, Index};
use super::owner::SideHashes;
use crate::access::{Reader, Writer};
use crate::word::Word32;

/// Entries in a chunk, the unit in which switchers own the table.
#[cfg(not(loom))]
pub const CHUNK: usize = 1024;
/// Entries in a chunk; few, to bound loom's state space.
#[cfg(loom)]
pub const CHUNK: usize = 1;

/// Index of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryId(pub u32);

/// Names one connection permanently, even after its entry is reused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handle {
    /// The entry.
    pub id: EntryId,
    /// The entry's generation for this connection.
    pub generation: EntryGeneration,
}

/// The result of a lookup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Names the connection.
    pub handle: Handle,
    /// The connection's identity.
    pub connection: Snapshot,
}

/// A view of the connection table.
#[derive(Clone, Copy)]
pub struct Connections<'a, A = Reader> {
    pub(super) entries: &'a [Entry<A>],
    client: Index<'a, A>,
    backend: Index<'a, A>,
    /// By chunk: 0, or the number of the owning switcher + 1.
    pub(super) owners: &'a [Word32<A>],
    key: HashKey,
}

impl<'a, A: Copy> Connections<'a, A> {
    /// Combines the parts of a region. `None` unless there is one owner word per [`CHUNK`] entries, the indexes are not
    /// empty, and their slots can name every entry.
    pub fn new(
        entries: &'a [Entry<A>],
        client: &'a [Bucket<A>],
        backend: &'a [Bucket<A>],
        owners: &'a [Word32<A>],
        key: HashKey,
    ) -> Option<Self> {
        let is_consistent = entries.len() == owners.len() * CHUNK
            && entries.len() <= ENTRIES_MAX
            && !client.is_empty()
            && !backend.is_empty();
        is_consistent.then_some(Self { entries, client: Index(client), backend: Index(backend), owners, key })
    }

    /// Number of connections that fit.
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn index(&self, side: Side) -> Index<'a, A> {
        match side {
            Side::Client => self.client,
            Side::Backend => self.backend,
        }
    }

    /// The keyed hash of one side of a connection.
    #[inline]
    pub fn hash(&self, key: &Key) -> u64 {
        self.key.hash(key)
    }

    /// The hashes of both sides of a connection.
    pub fn hashes(&self, connection: &Snapshot) -> SideHashes {
        let hash = |side| self.hash(&connection.key(side));
        SideHashes { client: hash(Side::Client), backend: hash(Side::Backend) }
    }

    /// The first cache line of a search, for prefetching.
    #[inline]
    pub fn first_bucket(&self, side: Side, hash: u64) -> *const Bucket<A> {
        self.index(side).first(hash)
    }

    /// The most likely result of a search, read from its first bucket once that is in the cache.
    #[inline]
    pub fn likely(&self, side: Side, hash: u64) -> Option<Handle> {
        let handle = self.index(side).candidates(hash).next()?;
        ((handle.id.0 as usize) < self.entries.len()).then_some(handle)
    }

    /// Finds the live connection with this key. `hash` is the key's hash; `likely` is from [`Connections::likely`].
    #[inline(always)] // a call would copy the result again
    pub fn find_likely(&self, key: &Key, hash: u64, likely: Option<Handle>) -> Option<Found> {
        match likely.and_then(|handle| self.at(handle, key)) {
            Some(found) => Some(found),
            None => self.find(key, hash),
        }
    }

    /// Finds the live connection with this key, whose hash is `hash`.
    #[inline(never)] // keeps find_likely small
    pub fn find(&self, key: &Key, hash: u64) -> Option<Found> {
        self.index(key.side).candidates(hash).find_map(|handle| self.at(handle, key))
    }

    #[inline]
    fn at(&self, handle: Handle, key: &Key) -> Option<Found> {
        self.read(handle).filter(|found| found.connection.key(key.side) == *key)
    }

    /// Reads the connection of a handle; `None` if it is dead or its entry has been reused.
    #[inline]
    pub(super) fn read(&self, handle: Handle) -> Option<Found> {
        let entry = self.entries.get(handle.id.0 as usize)?;
        let (connection, generation) = entry.read()?;
        (generation == handle.generation && entry.is_alive(generation)).then_some(Found { handle, connection })
    }

    /// Reads the connection in an entry, dead or not.
    #[inline]
    pub(super) fn read_entry(&self, id: EntryId) -> Option<Found> {
        let (connection, generation) = self.entries.get(id.0 as usize)?.read()?;
        Some(Found { handle: Handle { id, generation }, connection })
    }

    /// An entry's cache line, for prefetching. `id` must be from [`Connections::likely`], which checks its range.
    #[inline]
    pub fn line(&self, id: EntryId) -> *const Entry<A> {
        self.entry(id)
    }

    #[inline]
    pub(super) fn entry(&self, id: EntryId) -> &'a Entry<A> {
        &self.entries[id.0 as usize]
    }

    /// A connection's activity; a dead one if the connection has been freed.
    #[inline]
    pub fn activity(&self, found: &Found) -> Activity {
        self.entry(found.handle.id).activity_of(found.handle.generation).unwrap_or(Activity::GONE)
    }

    /// The last hop of a connection's client; `None` if the connection has been freed.
    #[inline]
    pub fn last_hop(&self, found: &Found) -> Option<LastHop> {
        self.entry(found.handle.id).last_hop_of(found.handle.generation)
    }

    /// Iterates over live connections in no particular order, while others are added and removed concurrently.
    pub fn live(&self) -> impl Iterator<Item = (Snapshot, Activity, Handle)> + use<'a, A> {
        let all = (0..).zip(self.entries).filter_map(|(id, entry)| {
            let (connection, generation) = entry.read()?;
            Some((connection, entry.activity_of(generation)?, Handle { id: EntryId(id), generation }))
        });
        all.filter(|(_, activity, _)| activity.state != State::Dead)
    }
}

impl Connections<'_, Writer> {
    /// Replaces a connection's activity by `next` of it, unless the connection has been unlinked or freed. Exactly one
    /// switcher gets `true`: the one whose change ended the connection ([`Activity::ENDED`]).
    #[inline]
    pub fn advance(&self, found: &Found, next: impl Fn(Activity) -> Activity) -> bool {
        self.entry(found.handle.id).advance(found.handle.generation, next)
    }

    /// Records the last hop of a connection's client if `gives_way` returns true for the previous one, unless the connection
    /// has been freed.
    #[inline]
    pub fn set_last_hop(&self, found: &Found, hop: LastHop, gives_way: impl Fn(LastHop) -> bool) {
        self.entry(found.handle.id).set_last_hop(found.handle.generation, hop, gives_way);
    }

    /// Ends a connection: marks it dead, so that no lookup finds it, then removes it from both indexes. Its owner frees it at
    /// its next visit. Idempotent, and open to any switcher. Never affects the entry's next connection, even one with the same
    /// client, service and backend.
    pub fn unlink(&self, found: &Found) {
        self.unlink_if(found, |_| true);
    }

    /// [`Connections::unlink`] if `is_over` returns true for the connection's activity, which is checked again after a
    /// concurrent change. Returns whether the connection is unlinked.
    pub(super) fn unlink_if(&self, found: &Found, is_over: impl Fn(&Activity) -> bool) -> bool {
        let is_dead = self.entry(found.handle.id).end_if(found.handle.generation, is_over);
        if is_dead {
            self.clear_slots(found);
        }
        is_dead
    }

    /// Ends a connection unless its recording is complete.
    pub(super) fn withdraw(&self, found: &Found) -> Rival {
        let rival = self.entry(found.handle.id).withdraw(found.handle.generation);
        if rival == Rival::Gone {
            self.clear_slots(found);
        }
        rival
    }

    /// Removes a dead connection from both indexes.
    fn clear_slots(&self, found: &Found) {
        let hashes = self.hashes(&found.connection);
        self.client.remove(hashes.client, found.handle);
        self.backend.remove(hashes.backend, found.handle);
    }
}
