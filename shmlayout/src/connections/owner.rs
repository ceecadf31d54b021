//! A switcher's own part of the connection table: it claims, fills, publishes and frees entries in the chunks it owns.
//!
//! A switcher acquires unowned chunks one at a time by compare and exchange and returns them when they are entirely free
//! and not needed. The lists of free entries are private; a successor rebuilds them from the entries.

use super::activity::{Activity, LastHop, State};
use super::entry::Snapshot;
use super::hash::Side;
use super::in_flight::{InFlight, Step, change_by_freeing};
use super::index::ProbesFull;
use super::table::{CHUNK, Connections, EntryId, Found, Handle};
use crate::access::Writer;
use crate::sync::Ordering;

/// Why a connection could not be recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordError {
    /// No free entry, and no chunk without an owner.
    TableFull,
    /// No free slot in the probe sequence of an index.
    ProbesFull,
    /// The same client port is already connected to the same backend through another service.
    BackendSideTaken,
    /// Another switcher recorded the same connection first: find its entry.
    Twin,
}

const NONE: u32 = u32::MAX;
/// Instead of the next entry: this one is in no list.
const IN_USE: u32 = u32::MAX - 1;

/// The free entries of one chunk, first in first out, linked through `Owner::next`.
#[derive(Clone, Copy)]
struct FreeList {
    head: u32,
    tail: u32,
    count: u32,
}

const EMPTY: FreeList = FreeList { head: NONE, tail: NONE, count: 0 };

/// The hashes of a connection's two keys, which its lookup has already computed.
#[derive(Clone, Copy, Debug)]
pub struct SideHashes {
    /// Hash of the client side.
    pub client: u64,
    /// Hash of the backend side.
    pub backend: u64,
}

impl SideHashes {
    /// Each side with its hash.
    pub(super) fn by_side(self) -> [(Side, u64); 2] {
        [(Side::Client, self.client), (Side::Backend, self.backend)]
    }
}

/// The owning side of the table, private to one switcher.
pub struct Owner<'a> {
    table: Connections<'a, Writer>,
    number: u8,
    in_flight: InFlight<'a>,
    next: Box<[u32]>,
    lists: Box<[FreeList]>,
    owned: Vec<u32>,
    free: usize,
    /// Position in `owned` of the chunk that supplies new entries.
    source: usize,
    /// Position of the sweep: index in `owned` and offset in the chunk.
    sweep: (usize, usize),
}

impl<'a> Owner<'a> {
    /// Adopts the chunks of a predecessor with the same number: frees claimed entries and retains live ones. `in_flight` has the
    /// predecessor's counts.
    pub fn adopt(table: Connections<'a, Writer>, number: u8, in_flight: InFlight<'a>) -> Self {
        let mut owner = Self {
            table,
            number,
            in_flight,
            next: vec![IN_USE; table.entries.len()].into(),
            lists: vec![EMPTY; table.owners.len()].into(),
            owned: Vec::with_capacity(table.owners.len()),
            free: 0,
            source: 0,
            sweep: (0, 0),
        };
        owner.finish_counting();
        let mine = owner.word();
        for (chunk, word) in table.owners.iter().enumerate() {
            if word.load(Ordering::Acquire) == mine {
                owner.join(chunk);
            }
        }
        owner
    }

    /// The shared table.
    #[inline]
    pub fn table(&self) -> &Connections<'a, Writer> {
        &self.table
    }

    /// Completes the count that was in progress when the predecessor was killed, if the counted step happened.
    fn finish_counting(&self) {
        let Some(unfinished) = self.in_flight.unfinished() else { return };
        let Some(entry) = self.table.entries.get(unfinished.handle.id.0 as usize) else { return };
        let generation = unfinished.handle.generation;
        let last = entry.activity_of(generation).unwrap_or(Activity::GONE);
        let change = match unfinished.step {
            Step::Recording => last.is_recorded().into(),
            Step::Freeing if entry.is_freed(generation) => change_by_freeing(&last),
            Step::Freeing => 0,
        };
        self.in_flight.finish(unfinished.backend, change);
    }

    /// The owner word of its chunks.
    fn word(&self) -> u32 {
        u32::from(self.number) + 1
    }

    /// Adds a chunk that another switcher owned, with its live entries. A partly recorded entry is completed if both indexes
    /// have it and withdrawn otherwise; dead entries are freed.
    fn join(&mut self, chunk: usize) {
        self.owned.push(chunk as u32);
        for entry in (chunk * CHUNK..(chunk + 1) * CHUNK).map(|entry| EntryId(entry as u32)) {
            match self.table.read_entry(entry) {
                Some(found) if self.complete(&found) => {}
                Some(found) => self.release(&found),
                None => {
                    self.table.entry(entry).free();
                    self.give_back(entry.0);
                }
            }
        }
    }

    /// Whether a predecessor's entry is retained: it is not dead, and it is recorded or can be now.
    fn complete(&self, found: &Found) -> bool {
        let activity = self.table.activity(found);
        activity.state != State::Dead && (activity.is_recorded() || self.resolve_partly_recorded(found))
    }

    /// Completes the recording of a predecessor's entry if possible; returns whether it is recorded.
    fn resolve_partly_recorded(&self, found: &Found) -> bool {
        let hashes = self.table.hashes(&found.connection);
        let has = |side, hash| self.table.index(side).candidates(hash).any(|handle| handle == found.handle);
        if !has(Side::Client, hashes.client) || !has(Side::Backend, hashes.backend) {
            return false;
        }
        self.in_flight.begin(Step::Recording, found);
        let is_recorded = self.resolve_rivals(found, hashes).is_ok();
        if is_recorded {
            self.in_flight.finish(found.connection.backend, 1);
        }
        is_recorded
    }

    /// Adds an entry to its chunk's list, unless it is in there: damaged memory can show one as used that is not.
    fn give_back(&mut self, entry: u32) {
        let list = &mut self.lists[entry as usize / CHUNK];
        if self.next[entry as usize] != IN_USE {
            return;
        }
        self.next[entry as usize] = NONE;
        match list.tail {
            NONE => list.head = entry,
            tail => self.next[tail as usize] = entry,
        }
        list.tail = entry;
        list.count += 1;
        self.free += 1;
    }

    fn take_chunk(&mut self) -> bool {
        let mine = self.word();
        let taken = self.table.owners.iter().position(|word| {
            word.load(Ordering::Relaxed) == 0
                && word.compare_exchange(0, mine, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        });
        if let Some(chunk) = taken {
            // Its last owner freed all entries before returning it, so they need not be read: no cache misses here.
            self.owned.push(chunk as u32);
            (chunk * CHUNK..(chunk + 1) * CHUNK).for_each(|entry| self.give_back(entry as u32));
        }
        taken.is_some()
    }

    fn take_free(&mut self) -> Option<u32> {
        if self.free == 0 && !self.take_chunk() {
            return None;
        }
        let list = loop {
            let chunk = self.owned[self.source % self.owned.len()] as usize;
            if self.lists[chunk].count > 0 {
                break &mut self.lists[chunk];
            }
            self.source = (self.source + 1) % self.owned.len(); // terminates: at least one list is not empty
        };
        let entry = list.head;
        list.head = std::mem::replace(&mut self.next[entry as usize], IN_USE);
        list.count -= 1;
        if list.count == 0 {
            *list = EMPTY;
        }
        self.free -= 1;
        Some(entry)
    }

    /// Records a connection: claim, fill, publish, insert into both indexes, check each for rivals, confirm. Rivals are
    /// records of the same connection, or of two connections with the same backend side. If several switchers record rivals
    /// concurrently, at least one succeeds and no two rivals do. A recorded connection is counted in flight.
    pub fn record(
        &mut self,
        connection: &Snapshot,
        hashes: SideHashes,
        now: Activity,
        hop: LastHop,
    ) -> Result<Found, RecordError> {
        let id = self.take_free().ok_or(RecordError::TableFull)?;
        let entry = self.table.entry(EntryId(id));
        entry.claim(self.number);
        entry.fill(connection, now, hop);
        entry.publish();
        let handle = Handle { id: EntryId(id), generation: entry.generation() };
        let mine = Found { handle, connection: *connection };
        self.in_flight.begin(Step::Recording, &mine);
        match self.link(&mine, hashes) {
            Ok(()) => {
                self.in_flight.finish(connection.backend, 1);
                Ok(mine)
            }
            Err(refusal) => {
                self.release(&mine);
                Err(refusal)
            }
        }
    }

    /// Inserts this switcher's published entry into both indexes and confirms it unless a rival remains.
    fn link(&self, mine: &Found, hashes: SideHashes) -> Result<(), RecordError> {
        self.insert(mine, Side::Client, hashes.client)?;
        self.insert(mine, Side::Backend, hashes.backend)?;
        self.resolve_rivals(mine, hashes)
    }

    fn insert(&self, mine: &Found, side: Side, hash: u64) -> Result<(), RecordError> {
        self.table.index(side).insert(hash, mine.handle).map_err(|ProbesFull| RecordError::ProbesFull)
    }

    /// Unlinks and frees an entry in an owned chunk.
    fn release(&mut self, found: &Found) {
        self.table.unlink(found);
        self.free_unlinked(found);
    }

    /// [`Owner::release`] if `is_over` returns true for the connection's activity. `freed` gets the connection and its final
    /// activity. Returns whether the entry was freed.
    pub(super) fn release_if(
        &mut self,
        found: &Found,
        is_over: impl Fn(&Activity) -> bool,
        freed: &mut impl FnMut(&Snapshot, &Activity),
    ) -> bool {
        let is_unlinked = self.table.unlink_if(found, is_over);
        if is_unlinked {
            freed(&found.connection, &self.free_unlinked(found));
        }
        is_unlinked
    }

    /// Frees and counts an unlinked entry in an owned chunk. Returns its final activity.
    fn free_unlinked(&mut self, found: &Found) -> Activity {
        let last = self.table.activity(found);
        self.in_flight.begin(Step::Freeing, found);
        self.table.entry(found.handle.id).free();
        self.in_flight.finish(found.connection.backend, change_by_freeing(&last));
        self.give_back(found.handle.id.0);
        last
    }

    /// Examines up to `budget` entries in owned chunks and frees those that are unlinked or for which `expired` returns true.
    /// An entry that becomes active again after the check is retained. `freed` gets each connection and its final activity.
    /// Returns the number of freed entries.
    pub fn sweep(
        &mut self,
        budget: usize,
        expired: impl Fn(&Snapshot, &Activity) -> bool,
        mut freed: impl FnMut(&Snapshot, &Activity),
    ) -> usize {
        let mut count = 0;
        for _ in 0..budget {
            let Some((chunk, id)) = self.visit() else { return count };
            if let Some(found) = self.table.read_entry(id) {
                let is_over = |now: &Activity| expired(&found.connection, now);
                count += usize::from(self.release_if(&found, is_over, &mut freed));
            }
            self.leave_visited(chunk);
        }
        count
    }

    /// The next entry in owned chunks, and its chunk. After the last entry `None` once, then the first again.
    pub(super) fn visit(&mut self) -> Option<(u32, EntryId)> {
        let Some(&chunk) = self.owned.get(self.sweep.0) else {
            self.sweep = (0, 0);
            return None;
        };
        let id = EntryId((chunk as usize * CHUNK + self.sweep.1) as u32);
        self.sweep.1 += 1;
        Some((chunk, id))
    }

    /// After a chunk's last entry: returns the chunk if it is entirely free and at least as many other entries are free.
    pub(super) fn leave_visited(&mut self, chunk: u32) {
        if self.sweep.1 < CHUNK {
            return;
        }
        let spare = self.lists[chunk as usize].count as usize == CHUNK && self.free >= 2 * CHUNK;
        if spare {
            self.owned.swap_remove(self.sweep.0);
            self.lists[chunk as usize] = EMPTY;
            self.next[chunk as usize * CHUNK..][..CHUNK].fill(IN_USE);
            self.free -= CHUNK;
            self.source = 0;
            self.table.owners[chunk as usize].store(0, Ordering::Release); // after all its entries are FREE
        }
        self.sweep = (if spare { self.sweep.0 } else { self.sweep.0 + 1 }, 0);
    }
}

#[cfg(test)]
#[path = "owner_tests.rs"]
mod tests;
