//! A switcher's counts of connections in flight, by backend, kept right wherever it is killed.
//!
//! An entry and the counter of its backend are two words, so a kill may strike between their stores. Before the store to
//! the entry, the journal names the connection and says what the counter was. The successor reads from the entry whether
//! that store was made, and sets the counter to what it ought to be.
//!
//! The end of a connection that another switcher owns ([`Activity::ENDED`]) isn't journalled: the entry doesn't say who
//! ended it. A switcher killed in that instant leaves its backend's count too high by one.

use super::activity::Activity;
use super::entry::EntryGeneration;
use super::table::{EntryId, Found, Handle};
use crate::access::{Reader, Writer};
use crate::address::BackendId;
use crate::layout::described;
use crate::record::Counter;
use crate::sync::{Ordering, fence};
use crate::word::Word;

/// What is being counted, in the switcher's own region.
#[repr(C)]
#[cfg_attr(not(loom), derive(zerocopy::FromBytes))]
pub struct CountJournal<A = Reader> {
    /// 0, or entry 30 bits, generation 12, backend 16, step 2.
    subject: Word<A>,
    /// Its backend's count before.
    before: Word<A>,
}

described!(CountJournal<A> { subject, before });

/// What a switcher does with an entry and counts then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Confirms it.
    Recording = 1,
    /// Frees it.
    Freeing = 2,
}

/// What a predecessor was counting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unfinished {
    pub step: Step,
    pub handle: Handle,
    pub backend: BackendId,
}

const GENERATION_SHIFT: u32 = 30;
const BACKEND_SHIFT: u32 = GENERATION_SHIFT + EntryGeneration::WIDTH;
const STEP_SHIFT: u32 = BACKEND_SHIFT + 16;

/// A switcher's counts and their journal; by default none, and nothing is counted.
#[derive(Clone, Copy, Default)]
pub struct InFlight<'a> {
    counts: &'a [Counter<Writer>],
    journal: Option<&'a CountJournal<Writer>>,
}

impl<'a> InFlight<'a> {
    /// Joins the parts of a switcher's region.
    pub fn new(counts: &'a [Counter<Writer>], journal: &'a CountJournal<Writer>) -> Self {
        Self { counts, journal: Some(journal) }
    }

    /// Says what will be counted once the entry is stored to.
    #[inline]
    pub(super) fn begin(&self, step: Step, found: &Found) {
        let backend = found.connection.backend;
        if let (Some(journal), Some(count)) = (self.journal, self.counts.get(usize::from(backend.0))) {
            let subject = u64::from(found.handle.id.0)
                | found.handle.generation.low_bits() << GENERATION_SHIFT
                | u64::from(backend.0) << BACKEND_SHIFT
                | (step as u64) << STEP_SHIFT;
            journal.before.store(count.get(), Ordering::Relaxed);
            journal.subject.store(subject, Ordering::Release); // after what it was before
        }
    }

    /// Counts, after the store to the entry.
    #[inline]
    pub(super) fn finish(&self, backend: BackendId, change: i64) {
        if let (Some(journal), Some(count)) = (self.journal, self.counts.get(usize::from(backend.0))) {
            fence(Ordering::Release); // the entry before the count
            count.set(journal.before.load(Ordering::Relaxed).wrapping_add_signed(change));
            journal.subject.store(0, Ordering::Release); // the count before
        }
    }

    /// What the predecessor was counting when it was killed.
    pub(super) fn unfinished(&self) -> Option<Unfinished> {
        let subject = self.journal?.subject.load(Ordering::Acquire);
        let step = match subject >> STEP_SHIFT {
            1 => Step::Recording,
            2 => Step::Freeing,
            _ => return None,
        };
        let id = EntryId((subject & ((1 << GENERATION_SHIFT) - 1)) as u32);
        let generation = EntryGeneration::from_low_bits(subject >> GENERATION_SHIFT);
        Some(Unfinished {
            step,
            handle: Handle { id, generation },
            backend: BackendId((subject >> BACKEND_SHIFT) as u16),
        })
    }
}

/// What freeing a connection adds: one that was recorded and not ended is no longer in flight; the end of one that was never
/// recorded balances the decrement of the switcher that ended it.
#[inline]
pub(super) fn change_by_freeing(last: &Activity) -> i64 {
    match (last.is_recorded(), last.flags & Activity::ENDED != 0) {
        (true, false) => -1,
        (false, true) => 1,
        (true, true) | (false, false) => 0,
    }
}
