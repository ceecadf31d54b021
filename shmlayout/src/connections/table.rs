//! The connection table as every switcher sees it: find, unlink, look through.

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
/// Entries in a chunk; few, so that the model checker gets through.
#[cfg(loom)]
pub const CHUNK: usize = 1;

/// Index of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryId(pub u32);

/// Names one connection for good: whatever its entry holds later is another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handle {
    /// Where it stands.
    pub id: EntryId,
    /// Which of that entry's connections it is.
    pub generation: EntryGeneration,
}

/// A connection that was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Which one it is.
    pub handle: Handle,
    /// What it is.
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
    /// Joins the parts of a region. `None` unless there is one owner word for each [`CHUNK`] entries, the indexes aren't
    /// empty, and their slots can name each entry.
    pub fn new(
        entries: &'a [Entry<A>],
        client: &'a [Bucket<A>],
        backend: &'a [Bucket<A>],
        owners: &'a [Word32<A>],
        key: HashKey,
    ) -> Option<Self> {
        let whole = entries.len() == owners.len() * CHUNK
            && entries.len() <= ENTRIES_MAX
            && !client.is_empty()
            && !backend.is_empty();
        whole.then_some(Self { entries, client: Index(client), backend: Index(backend), owners, key })
    }

    /// How many connections there is room for.
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

    /// The cache line a search begins with, to be prefetched.
    #[inline]
    pub fn first_bucket(&self, side: Side, hash: u64) -> *const Bucket<A> {
        self.index(side).first(hash)
    }

    /// The connection that a search will most likely end at, once the bucket is here.
    #[inline]
    pub fn likely(&self, side: Side, hash: u64) -> Option<Handle> {
        let handle = self.index(side).candidates(hash).next()?;
        ((handle.id.0 as usize) < self.entries.len()).then_some(handle)
    }

    /// The live connection with this key; `hash` is the key's, `likely` what [`Connections::likely`] said of it.
    #[inline]
    pub fn find_likely(&self, key: &Key, hash: u64, likely: Option<Handle>) -> Option<Found> {
        match likely.and_then(|handle| self.at(handle, key)) {
            Some(found) => Some(found),
            None => self.find(key, hash),
        }
    }

    /// The live connection with this key; `hash` is the key's.
    pub fn find(&self, key: &Key, hash: u64) -> Option<Found> {
        self.index(key.side).candidates(hash).find_map(|handle| self.at(handle, key))
    }

    #[inline]
    fn at(&self, handle: Handle, key: &Key) -> Option<Found> {
        self.read(handle).filter(|found| found.connection.key(key.side) == *key)
    }

    /// The connection of a handle, unless it is dead or its entry is another one's.
    #[inline]
    pub(super) fn read(&self, handle: Handle) -> Option<Found> {
        let found = self.read_entry(handle.id).filter(|found| found.handle == handle)?;
        (self.activity(&found).state != State::Dead).then_some(found)
    }

    /// The connection in an entry, whichever it is, and be it dead.
    #[inline]
    pub(super) fn read_entry(&self, id: EntryId) -> Option<Found> {
        let (connection, generation) = self.entries.get(id.0 as usize)?.read()?;
        Some(Found { handle: Handle { id, generation }, connection })
    }

    /// An entry's line, to be prefetched; ids come from [`Connections::likely`], so they are in range.
    #[inline]
    pub fn line(&self, id: EntryId) -> *const Entry<A> {
        self.entry(id)
    }

    #[inline]
    pub(super) fn entry(&self, id: EntryId) -> &'a Entry<A> {
        &self.entries[id.0 as usize]
    }

    /// A connection's activity; of one that was freed meanwhile, a dead one's.
    #[inline]
    pub fn activity(&self, found: &Found) -> Activity {
        self.entry(found.handle.id).activity_of(found.handle.generation).unwrap_or(Activity::GONE)
    }

    /// The last hop of a connection's client, unless the connection was freed meanwhile.
    #[inline]
    pub fn last_hop(&self, found: &Found) -> Option<LastHop> {
        self.entry(found.handle.id).last_hop_of(found.handle.generation)
    }

    /// Every live connection, in no order, while others come and go.
    pub fn live(&self) -> impl Iterator<Item = (Snapshot, Activity, Handle)> + use<'a, A> {
        let all = (0..).zip(self.entries).filter_map(|(id, entry)| {
            let (connection, generation) = entry.read()?;
            Some((connection, entry.activity_of(generation)?, Handle { id: EntryId(id), generation }))
        });
        all.filter(|(_, activity, _)| activity.state != State::Dead)
    }
}

impl Connections<'_, Writer> {
    /// Changes a connection's activity to what `next` makes of it, unless it was unlinked or freed meanwhile. Exactly one
    /// switcher gets true: the one whose change ended the connection ([`Activity::ENDED`]).
    #[inline]
    pub fn advance(&self, found: &Found, next: impl Fn(Activity) -> Activity) -> bool {
        self.entry(found.handle.id).advance(found.handle.generation, next)
    }

    /// Notes the last hop of a connection's client, unless the connection was freed meanwhile.
    #[inline]
    pub fn set_last_hop(&self, found: &Found, hop: LastHop) {
        self.entry(found.handle.id).set_last_hop(found.handle.generation, hop);
    }

    /// Ends a connection: dead first, so that nobody finds it any more, then out of both indexes. Its owner frees it at its
    /// next visit. Any switcher may do so, and twice does no harm; nor does it touch the next connection of the entry, not
    /// even one of the same client, service and backend.
    pub fn unlink(&self, found: &Found) {
        self.unlink_if(found, |_| true);
    }

    /// [`Connections::unlink`], if `is_over` says so of the connection's activity; one that changes meanwhile is judged
    /// anew. Whether it is unlinked then.
    pub(super) fn unlink_if(&self, found: &Found, is_over: impl Fn(&Activity) -> bool) -> bool {
        let is_dead = self.entry(found.handle.id).end_if(found.handle.generation, is_over);
        if is_dead {
            self.clear_slots(found);
        }
        is_dead
    }

    /// Ends a connection that isn't recorded to the last step.
    pub(super) fn withdraw(&self, found: &Found) -> Rival {
        let rival = self.entry(found.handle.id).withdraw(found.handle.generation);
        if rival == Rival::Gone {
            self.clear_slots(found);
        }
        rival
    }

    /// Takes a dead connection out of both indexes.
    fn clear_slots(&self, found: &Found) {
        let hashes = self.hashes(&found.connection);
        self.client.remove(hashes.client, found.handle);
        self.backend.remove(hashes.backend, found.handle);
    }
}
