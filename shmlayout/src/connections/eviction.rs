//! What gives way when the table is full.

use super::activity::{Activity, State};
use super::entry::Snapshot;
use super::owner::Owner;
use crate::address::Protocol;

impl Owner<'_> {
    /// For a full table: frees the least valuable of up to `budget` entries in owned chunks, of equal ones that which has been
    /// silent for longest. One whose rank changes concurrently is retained. Returns whether an entry was freed.
    pub fn evict(&mut self, budget: usize, mut freed: impl FnMut(&Snapshot, &Activity)) -> bool {
        let mut least = None;
        for _ in 0..budget {
            let Some((chunk, id)) = self.visit() else { continue };
            self.leave_visited(chunk); // returns no chunk: the table is full
            let Some(found) = self.table().read_entry(id) else { continue };
            let now = self.table().activity(&found);
            let Some(rank) = Rank::of(&found.connection, &now) else { continue };
            let is_less = least.is_none_or(|(least, since_ms, _)| (rank, now.last_seen_ms) < (least, since_ms));
            if is_less {
                least = Some((rank, now.last_seen_ms, found));
            }
            if rank == Rank::Over {
                break;
            }
        }
        least.is_some_and(|(rank, _, found)| {
            let is_still = |now: &Activity| Rank::of(&found.connection, now) == Some(rank);
            self.release_if(&found, is_still, &mut freed)
        })
    }
}

/// What is evicted from a full table, in this order. Floods with forged sources make such entries (RFC 4987); an established TCP
/// connection has no rank, so that no flood ends it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Dead or closed.
    Over,
    /// Still opening.
    Opening,
    /// One side has sent its FIN.
    Closing,
    /// A UDP flow: its next packet makes a new one.
    Datagrams,
}

impl Rank {
    fn of(connection: &Snapshot, now: &Activity) -> Option<Self> {
        match now.state {
            State::Dead | State::Closed => Some(Self::Over),
            State::Opening => Some(Self::Opening),
            State::Closing => Some(Self::Closing),
            State::Established => (connection.protocol.get() == Some(Protocol::Udp)).then_some(Self::Datagrams),
        }
    }
}
