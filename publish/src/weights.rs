//! `static`, and what all algorithms begin with: which backends take part in a service, with what weight, and the slots that
//! result.

use super::maglev::{self, Candidate};
use crate::health::Health;

/// One backend of a service, with everything that decides how many new connections it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// What its slots hold.
    pub id: u16,
    /// [`maglev::stable_key`] of its address and protocol.
    pub key: u64,
    /// The weight the operator wrote.
    pub configured_weight: u32,
    /// By how much feedback multiplies it, thousandths.
    pub factor_permille: u32,
    /// What the health check says; up where there is none.
    pub health: Health,
    /// Taken out by the operator or by itself: its connections finish, and it gets no new one.
    pub out: bool,
}

impl Member {
    /// The weight that counts for new connections, before feedback.
    pub fn effective_weight(&self) -> u32 {
        match self.health {
            Health::Up if !self.out => self.configured_weight,
            _ => 0,
        }
    }

    /// The weight in its slots, in thousandths of a configured one.
    fn slots_weight(&self) -> u32 {
        self.effective_weight() * self.factor_permille
    }
}

/// Fills a service's slots. False if no member takes new connections: the table is then empty, and clients are told so
/// by a reset instead of waiting for a dead backend.
pub fn distribute(slots: &mut [u16], members: &[Member]) -> bool {
    let candidates: Vec<_> =
        members.iter().map(|m| Candidate { id: m.id, key: m.key, weight: m.slots_weight() }).collect();
    maglev::fill(slots, &candidates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u16, health: Health, out: bool) -> Member {
        Member { id, key: u64::from(id) * 7919, configured_weight: 3, factor_permille: 1000, health, out }
    }

    #[test]
    fn a_factor_moves_the_share() {
        let mut slots = vec![0; 1021];
        let light = Member { factor_permille: 250, ..member(1, Health::Up, false) };
        assert!(distribute(&mut slots, &[light, member(2, Health::Up, false)]));
        assert_eq!(slots.iter().filter(|slot| **slot == 1).count(), 204);
    }

    #[test]
    fn only_a_healthy_backend_in_service_has_weight() {
        assert_eq!(member(1, Health::Up, false).effective_weight(), 3);
        assert_eq!(member(1, Health::Up, true).effective_weight(), 0);
        assert_eq!(member(1, Health::Down, false).effective_weight(), 0);
        assert_eq!(member(1, Health::Down, true).effective_weight(), 0);
    }

    #[test]
    fn a_backend_that_is_down_gets_no_slot() {
        let mut slots = vec![0; 1021];
        assert!(distribute(&mut slots, &[member(1, Health::Up, false), member(2, Health::Down, false)]));
        assert!(slots.iter().all(|&s| s == 1));
    }

    #[test]
    fn all_down_empties_the_table() {
        let mut slots = vec![1; 1021];
        assert!(!distribute(&mut slots, &[member(1, Health::Down, false), member(2, Health::Up, true)]));
        assert!(slots.iter().all(|&s| s == maglev::NO_BACKEND));
    }
}
