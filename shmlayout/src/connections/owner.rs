//! A switcher's own part of the connection table: it claims, fills, publishes and frees entries in the chunks it owns.
//!
//! Chunks without an owner are taken one at a time by compare and exchange, and given back when they are wholly free
//! and not needed. The lists of free entries are private; a successor makes them anew from the entries themselves.

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
pub enum Refusal {
    /// No free entry, and no chunk without an owner.
    TableFull,
    /// No free slot within the probes of an index.
    ProbesFull,
    /// The same client port already talks to the same backend through another service.
    BackendSideTaken,
    /// Another switcher recorded the same connection, and its entry stands: find it.
    Twin,
}

const NONE: u32 = u32::MAX;

/// The free entries of one chunk, first in first out, linked through `Owner::next`.
#[derive(Clone, Copy)]
struct FreeList {
    head: u32,
    tail: u32,
    count: u32,
}

const EMPTY: FreeList = FreeList { head: NONE, tail: NONE, count: 0 };

/// The hashes of a connection's two keys, which whoever looked for it has at hand.
#[derive(Clone, Copy, Debug)]
pub struct SideHashes {
    /// Of its client side.
    pub client: u64,
    /// Of its backend side.
    pub backend: u64,
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
    /// Where new entries come from, and where the sweep is: positions in `owned`, and an offset in the chunk.
    source: usize,
    sweep: (usize, usize),
}

impl<'a> Owner<'a> {
    /// Takes over what a predecessor of the same number left: claims are taken back, live entries kept. `in_flight` is what the
    /// predecessor counted.
    pub fn adopt(table: Connections<'a, Writer>, number: u8, in_flight: InFlight<'a>) -> Self {
        let mut owner = Self {
            table,
            number,
            in_flight,
            next: vec![NONE; table.entries.len()].into(),
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

    /// The table as everybody sees it.
    #[inline]
    pub fn table(&self) -> &Connections<'a, Writer> {
        &self.table
    }

    /// Counts what the predecessor was counting when it was killed, if it did what it was about to count.
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

    /// What stands in the owner word of its chunks.
    fn word(&self) -> u32 {
        u32::from(self.number) + 1
    }

    /// Takes a chunk in that a switcher had before: its live entries stay. What the switcher didn't live to record is
    /// completed where both indexes have it, and withdrawn otherwise; what it didn't live to free is freed.
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

    /// Whether a predecessor's entry stays: it is recorded, or can be now. A dead one never does.
    fn complete(&self, found: &Found) -> bool {
        let activity = self.table.activity(found);
        activity.state != State::Dead && (activity.is_recorded() || self.settle_half_recorded(found))
    }

    /// Decides whether a predecessor's entry that isn't recorded can be.
    fn settle_half_recorded(&self, found: &Found) -> bool {
        let hashes = self.table.hashes(&found.connection);
        let has = |side, hash| self.table.index(side).candidates(hash).any(|handle| handle == found.handle);
        if !has(Side::Client, hashes.client) || !has(Side::Backend, hashes.backend) {
            return false;
        }
        self.in_flight.begin(Step::Recording, found);
        let stays = self.settle(found, hashes).is_ok();
        if stays {
            self.in_flight.finish(found.connection.backend, 1);
        }
        stays
    }

    fn give_back(&mut self, entry: u32) {
        let list = &mut self.lists[entry as usize / CHUNK];
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
            // Whoever gave it back had freed all of it, so its entries needn't be looked at: no cache misses here.
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
            self.source = (self.source + 1) % self.owned.len(); // ends: some list isn't empty
        };
        let entry = list.head;
        list.head = self.next[entry as usize];
        list.count -= 1;
        if list.count == 0 {
            *list = EMPTY;
        }
        self.free -= 1;
        Some(entry)
    }

    /// Records a connection: claim, fill, publish, both indexes, one look for rivals in each, confirm. Rivals are records of
    /// the same connection, or of two with the same backend side. However many switchers record rivals at the same time, no
    /// two rivals stand, and at least one of them all does. One that is recorded is counted in flight.
    pub fn record(
        &mut self,
        connection: &Snapshot,
        hashes: SideHashes,
        now: Activity,
        hop: LastHop,
    ) -> Result<Found, Refusal> {
        let id = self.take_free().ok_or(Refusal::TableFull)?;
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

    /// Puts a published entry of ours into both indexes, and confirms it unless a rival stands.
    fn link(&self, mine: &Found, hashes: SideHashes) -> Result<(), Refusal> {
        self.insert(mine, Side::Client, hashes.client)?;
        self.insert(mine, Side::Backend, hashes.backend)?;
        self.settle(mine, hashes)
    }

    fn insert(&self, mine: &Found, side: Side, hash: u64) -> Result<(), Refusal> {
        self.table.index(side).insert(hash, mine.handle).map_err(|ProbesFull| Refusal::ProbesFull)
    }

    /// Unlinks and frees an entry of a chunk of ours.
    fn release(&mut self, found: &Found) {
        self.table.unlink(found);
        self.free_unlinked(found);
    }

    /// [`Owner::release`], if `is_over` says so of the connection's activity. `freed` is told of it, and of its last
    /// activity.
    fn release_if(
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

    /// Frees and counts an unlinked entry of a chunk of ours. Returns its final activity.
    fn free_unlinked(&mut self, found: &Found) -> Activity {
        let last = self.table.activity(found);
        self.in_flight.begin(Step::Freeing, found);
        self.table.entry(found.handle.id).free();
        self.in_flight.finish(found.connection.backend, change_by_freeing(&last));
        self.give_back(found.handle.id.0);
        last
    }

    /// Looks at up to `budget` entries of ours and frees those of which `expired` says so, and those unlinked. One that
    /// becomes active again after `expired` looked at it stays. `freed` is told each one and its last activity. Returns
    /// how many were freed.
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

    /// The next entry of ours, and its chunk. After the last one `None`, then the first again.
    fn visit(&mut self) -> Option<(u32, EntryId)> {
        let Some(&chunk) = self.owned.get(self.sweep.0) else {
            self.sweep = (0, 0);
            return None;
        };
        let id = EntryId((chunk as usize * CHUNK + self.sweep.1) as u32);
        self.sweep.1 += 1;
        Some((chunk, id))
    }

    /// After a chunk's last entry: gives the chunk back if it is wholly free and another one's worth remains.
    fn leave_visited(&mut self, chunk: u32) {
        if self.sweep.1 < CHUNK {
            return;
        }
        let spare = self.lists[chunk as usize].count as usize == CHUNK && self.free >= 2 * CHUNK;
        if spare {
            self.owned.swap_remove(self.sweep.0);
            self.lists[chunk as usize] = EMPTY;
            self.free -= CHUNK;
            self.source = 0;
            self.table.owners[chunk as usize].store(0, Ordering::Release); // all its entries are FREE before
        }
        self.sweep = (if spare { self.sweep.0 } else { self.sweep.0 + 1 }, 0);
    }

    /// With the table full, frees one of up to `budget` entries of ours that matters least: one that is closed, else
    /// one still opening (RFC 4987: a flood of SYNs must not cost established connections their place). One that becomes
    /// established meanwhile stays.
    pub fn evict(&mut self, budget: usize, mut freed: impl FnMut(&Snapshot, &Activity)) -> bool {
        let is_least = |now: &Activity| matches!(now.state, State::Closed | State::Opening);
        let mut opening = None;
        for _ in 0..budget {
            let Some((chunk, id)) = self.visit() else { continue };
            self.leave_visited(chunk); // gives nothing back: the table is full
            let Some(found) = self.table.read_entry(id) else { continue };
            match self.table.activity(&found).state {
                State::Dead | State::Closed if self.release_if(&found, is_least, &mut freed) => return true,
                State::Opening => opening = opening.or(Some(found)),
                _ => {}
            }
        }
        opening.is_some_and(|found| self.release_if(&found, is_least, &mut freed))
    }
}

#[cfg(test)]
#[path = "owner_tests.rs"]
mod tests;
