//! The connection table as every switcher sees it: find, unlink, look through.

use super::entry::{Activity, Entry, EntryGeneration, Snapshot, State};
use super::hash::{HashKey, Key, Side};
use super::index::{Bucket, Index};
use super::owner::SideHashes;
use crate::sync::AtomicU32;

/// Entries in a chunk, the unit in which switchers own the table.
#[cfg(not(loom))]
pub const CHUNK: usize = 1024;
/// Entries in a chunk; few, so that the model checker gets through.
#[cfg(loom)]
pub const CHUNK: usize = 1;

/// Index of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryId(pub u32);

/// A connection that was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Where it stands.
    pub id: EntryId,
    /// Which of that entry's connections it is.
    pub generation: EntryGeneration,
    /// What it is.
    pub connection: Snapshot,
}

/// A view of the connection table.
#[derive(Clone, Copy)]
pub struct Connections<'a> {
    pub(super) entries: &'a [Entry],
    client: Index<'a>,
    backend: Index<'a>,
    /// By chunk: 0, or the number of the owning switcher + 1.
    pub(super) owners: &'a [AtomicU32],
    key: HashKey,
}

impl<'a> Connections<'a> {
    /// Joins the parts of a region. `None` unless there is one owner word for each [`CHUNK`] entries and the indexes
    /// aren't empty.
    pub fn new(
        entries: &'a [Entry],
        client: &'a [Bucket],
        backend: &'a [Bucket],
        owners: &'a [AtomicU32],
        key: HashKey,
    ) -> Option<Self> {
        let whole = entries.len() == owners.len() * CHUNK && !client.is_empty() && !backend.is_empty();
        whole.then_some(Self { entries, client: Index(client), backend: Index(backend), owners, key })
    }

    /// How many connections there is room for.
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn index(&self, side: Side) -> Index<'a> {
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
    pub fn first_bucket(&self, side: Side, hash: u64) -> *const Bucket {
        self.index(side).first(hash)
    }

    /// The entry that a search will most likely end at, once the bucket is here.
    #[inline]
    pub fn likely(&self, side: Side, hash: u64) -> Option<EntryId> {
        let (_, entry) = self.index(side).candidates(hash).next()?;
        ((entry as usize) < self.entries.len()).then_some(EntryId(entry))
    }

    /// The live connection with this key; `hash` is the key's, `likely` what [`Connections::likely`] said of it.
    #[inline]
    pub fn find_likely(&self, key: &Key, hash: u64, likely: Option<EntryId>) -> Option<Found> {
        match likely.and_then(|id| self.at(id.0, key)) {
            Some(found) => Some(found),
            None => self.find(key, hash),
        }
    }

    /// The live connection with this key; `hash` is the key's.
    pub fn find(&self, key: &Key, hash: u64) -> Option<Found> {
        self.index(key.side).candidates(hash).find_map(|(_, entry)| self.at(entry, key))
    }

    #[inline]
    fn at(&self, entry: u32, key: &Key) -> Option<Found> {
        let found = self.read(entry)?;
        (found.connection.key(key.side) == *key).then_some(found)
    }

    /// The live connection in an entry.
    #[inline]
    pub(super) fn read(&self, entry: u32) -> Option<Found> {
        let (connection, generation) = self.entries.get(entry as usize)?.read()?;
        Some(Found { id: EntryId(entry), generation, connection })
    }

    /// An entry by its id; ids come from [`Connections::find`] and the owner, so they are in range.
    #[inline]
    pub fn entry(&self, id: EntryId) -> &'a Entry {
        &self.entries[id.0 as usize]
    }

    /// A connection's activity; of one that was freed meanwhile, a dead one's.
    #[inline]
    pub fn activity(&self, found: &Found) -> Activity {
        let gone = Activity { last_seen_ms: 0, state: State::Dead, flags: 0 };
        self.entry(found.id).activity_of(found.generation).unwrap_or(gone)
    }

    /// Changes a connection's activity to what `next` makes of it, unless it was unlinked or freed meanwhile. Exactly one
    /// switcher gets true: the one whose change ended the connection ([`Activity::ENDED`]).
    #[inline]
    pub fn advance(&self, found: &Found, next: impl Fn(Activity) -> Activity) -> bool {
        self.entry(found.id).advance(found.generation, next)
    }

    /// Takes a connection out of both indexes, so that its owner frees it at its next visit. Any switcher may do so, and
    /// twice does no harm. One that was freed meanwhile is left, as its entry may be another connection's.
    ///
    /// A slot names an entry, not its generation. Between the check and the removals, the owner can still free the
    /// entry and record the very same client, service and backend there. That connection then loses a slot, not its state.
    pub fn unlink(&self, found: &Found) {
        if self.entry(found.id).activity_of(found.generation).is_none() {
            return;
        }
        let hashes = self.hashes(&found.connection);
        self.client.remove(hashes.client, found.id.0);
        self.backend.remove(hashes.backend, found.id.0);
        self.advance(found, |now| Activity { state: State::Dead, ..now });
    }

    /// Every live connection, in no order, while others come and go.
    pub fn live(&self) -> impl Iterator<Item = (Snapshot, Activity, &'a Entry)> + use<'a> {
        let all = self.entries.iter().filter_map(|entry| {
            let (connection, generation) = entry.read()?;
            Some((connection, entry.activity_of(generation)?, entry))
        });
        all.filter(|(_, activity, _)| activity.state != State::Dead)
    }
}
