//! Rivals: entries of the same connection, or of two connections with the same backend side, that several switchers record at
//! the same time. At most one of them stands, and of all at least one.

use super::entry::Rival;
use super::hash::Side;
use super::owner::{Owner, Refusal, SideHashes};
use super::table::Found;
use crate::sync::{Ordering, fence};

impl Owner<'_> {
    /// Decides whether an entry of ours that both indexes have is recorded. It withdraws no rival before it has seen that none
    /// stands in either index: a rival of an entry that yields may stand.
    pub(super) fn settle(&self, mine: &Found, hashes: SideHashes) -> Result<(), Refusal> {
        fence(Ordering::SeqCst); // my slots before the search for rivals: the rival's switcher does the same
        let sides = [(Side::Client, hashes.client), (Side::Backend, hashes.backend)];
        let mut is_contended = false;
        for (side, hash) in sides {
            is_contended |= self.yield_to_rivals(mine, side, hash)?;
        }
        if is_contended {
            sides.into_iter().try_for_each(|(side, hash)| self.withdraw_rivals(mine, side, hash))?;
        }
        if self.confirm(mine) { Ok(()) } else { Err(self.reason_of_withdrawal(mine, hashes)) }
    }

    /// Which rival has withdrawn an entry of ours meanwhile.
    #[cold]
    fn reason_of_withdrawal(&self, mine: &Found, hashes: SideHashes) -> Refusal {
        let twin = self.table().find(&mine.connection.key(Side::Client), hashes.client);
        if twin.is_some() { Refusal::Twin } else { Refusal::BackendSideTaken }
    }

    /// Of rivals, a recorded one stands, for it may not have seen the others; else the one in the entry of the lowest number. One
    /// order for both indexes: else three rivals might all yield, each to the next. Returns whether there are others, which yield.
    #[inline]
    fn yield_to_rivals(&self, mine: &Found, side: Side, hash: u64) -> Result<bool, Refusal> {
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
    fn withdraw_rivals(&self, mine: &Found, side: Side, hash: u64) -> Result<(), Refusal> {
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
fn taken(side: Side) -> Refusal {
    match side {
        Side::Client => Refusal::Twin,
        Side::Backend => Refusal::BackendSideTaken,
    }
}
