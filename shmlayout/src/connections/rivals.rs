//! Rivals: entries of the same connection, or of two connections with the same backend side, that several switchers record at
//! the same time. At most one of them stands, and of all at least one.

use super::entry::Rival;
use super::hash::Side;
use super::owner::{Owner, RecordError, SideHashes};
use super::table::Found;
use crate::sync::{Ordering, fence};

impl Owner<'_> {
    /// Checks for rivals of this switcher's entry, which both indexes have, and confirms it if none remains. It withdraws no rival
    /// before both indexes were checked: the rivals of an entry that yields may stand.
    pub(super) fn resolve_rivals(&self, mine: &Found, hashes: SideHashes) -> Result<(), RecordError> {
        fence(Ordering::SeqCst); // own slots before the check for rivals: pairs with the same fence in the rival's switcher
        let sides = hashes.by_side();
        let mut is_contended = false;
        for (side, hash) in sides {
            is_contended |= self.yield_to_rivals(mine, side, hash)?;
        }
        if is_contended {
            sides.into_iter().try_for_each(|(side, hash)| self.withdraw_rivals(mine, side, hash))?;
        }
        if self.confirm(mine) { Ok(()) } else { Err(self.reason_of_withdrawal(mine, hashes)) }
    }

    /// Finds out which rival has withdrawn this switcher's entry.
    #[cold]
    fn reason_of_withdrawal(&self, mine: &Found, hashes: SideHashes) -> RecordError {
        let twin = self.table().find(&mine.connection.key(Side::Client), hashes.client);
        if twin.is_some() { RecordError::Twin } else { RecordError::BackendSideTaken }
    }

    /// Yields to a rival that is recorded, because it may have missed this entry, or has a lower entry number. Both indexes use
    /// this order; otherwise three rivals could each yield to the next. Returns whether there are rivals that have to yield.
    #[inline]
    fn yield_to_rivals(&self, mine: &Found, side: Side, hash: u64) -> Result<bool, RecordError> {
        let mut is_contended = false;
        for other in self.rivals(mine, side, hash) {
            if other.handle.id.0 < mine.handle.id.0 || self.table().activity(&other).is_recorded() {
                return Err(taken(side));
            }
            is_contended = true;
        }
        Ok(is_contended)
    }

    /// Withdraws all rivals, unless one was recorded meanwhile.
    #[cold]
    fn withdraw_rivals(&self, mine: &Found, side: Side, hash: u64) -> Result<(), RecordError> {
        let mut rivals = self.rivals(mine, side, hash);
        rivals.try_for_each(|other| match self.table().withdraw(&other) {
            Rival::Gone => Ok(()),
            Rival::Stands => Err(taken(side)),
        })
    }

    /// The living entries of others that have the same key on this side.
    #[inline]
    fn rivals(&self, mine: &Found, side: Side, hash: u64) -> impl Iterator<Item = Found> {
        let others = self.table().index(side).candidates(hash).filter(|handle| *handle != mine.handle);
        let living = others.filter_map(|handle| self.table().read(handle));
        living.filter(move |other| other.connection.contends_with(&mine.connection, side))
    }

    fn confirm(&self, mine: &Found) -> bool {
        self.table().entry(mine.handle.id).confirm(mine.handle.generation)
    }
}

/// Why a rival on this side keeps an entry from being recorded.
fn taken(side: Side) -> RecordError {
    match side {
        Side::Client => RecordError::Twin,
        Side::Backend => RecordError::BackendSideTaken,
    }
}
