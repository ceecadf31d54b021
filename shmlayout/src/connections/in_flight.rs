//! A switcher's crash-safe counts of connections in flight, by backend.
//!
//! An entry and its backend's counter are separate words, and a kill may fall between their stores. The journal therefore
//! records the connection and the counter's value before the store to the entry. The successor reads from the entry whether
//! that store happened and sets the counter accordingly.
//!
//! The end of a connection that another switcher owns ([`Activity::ENDED`]) is not journalled, because the entry does not
//! record which switcher ended it. A switcher killed at that point leaves its backend's count too high by one.

use super::activity::Activity;
use super::entry::EntryGeneration;
use super::table::{EntryId, Found, Handle};
use crate::access::{Reader, Writer};
use crate::address::BackendId;
use crate::layout::described;
use crate::record::Counter;
use crate::sync::{Ordering, fence};
use crate::word::Word;

/// The count in progress, in the switcher's region.
#[repr(C)]
#[cfg_attr(not(loom), derive(zerocopy::FromBytes))]
pub struct CountJournal<A = Reader> {
    /// 0, or entry 30 bits, generation 12, backend 16, step 2.
    subject: Word<A>,
    /// The backend's count before the change.
    before: Word<A>,
}

described!(CountJournal<A> { subject, before });

/// A step on an entry that changes a count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Confirmation of the entry.
    Recording = 1,
    /// Freeing of the entry.
    Freeing = 2,
}

/// The count that a predecessor left in progress.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unfinished {
    pub step: Step,
    pub handle: Handle,
    pub backend: BackendId,
}

const GENERATION_SHIFT: u32 = 30;
const BACKEND_SHIFT: u32 = GENERATION_SHIFT + EntryGeneration::WIDTH;
const STEP_SHIFT: u32 = BACKEND_SHIFT + 16;

/// A switcher's counts and their journal. The default has neither and counts nothing.
#[derive(Clone, Copy, Default)]
pub struct InFlight<'a> {
    counts: &'a [Counter<Writer>],
    journal: Option<&'a CountJournal<Writer>>,
}

impl<'a> InFlight<'a> {
    /// Combines the parts of a switcher's region.
    pub fn new(counts: &'a [Counter<Writer>], journal: &'a CountJournal<Writer>) -> Self {
        Self { counts, journal: Some(journal) }
    }

    /// Journals a change of the count, before the store to the entry.
    #[inline]
    pub(super) fn begin(&self, step: Step, found: &Found) {
        let backend = found.connection.backend;
        if let (Some(journal), Some(count)) = (self.journal, self.counts.get(usize::from(backend.0))) {
            let subject = u64::from(found.handle.id.0)
                | found.handle.generation.low_bits() << GENERATION_SHIFT
                | u64::from(backend.0) << BACKEND_SHIFT
                | (step as u64) << STEP_SHIFT;
            journal.before.store(count.get(), Ordering::Relaxed);
            journal.subject.store(subject, Ordering::Release); // after `before`
        }
    }

    /// Changes the count and clears the journal, after the store to the entry.
    #[inline]
    pub(super) fn finish(&self, backend: BackendId, change: i64) {
        if let (Some(journal), Some(count)) = (self.journal, self.counts.get(usize::from(backend.0))) {
            fence(Ordering::Release); // the entry before the count
            count.set(journal.before.load(Ordering::Relaxed).wrapping_add_signed(change));
            journal.subject.store(0, Ordering::Release); // after the count
        }
    }

    /// The count that was in progress when the predecessor was killed.
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

/// Change of the count when a connection is freed. A recorded connection without an end is no longer in flight. For an ended
/// connection that was never recorded, the change balances the decrement of the switcher that ended it.
#[inline]
pub(super) fn change_by_freeing(last: &Activity) -> i64 {
    match (last.is_recorded(), last.flags & Activity::ENDED != 0) {
        (true, false) => -1,
        (false, true) => 1,
        (true, true) | (false, false) => 0,
    }
}
