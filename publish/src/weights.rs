//! `static`, and the first step of every algorithm: the backends that take part in a service, their weights, and the
//! resulting slots.

use super::maglev::{self, SlotCandidate};
use crate::health::Health;

/// A backend of one service, with the values that determine its share of new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightedMember {
    /// The backend's id, as in the slots.
    pub id: u16,
    /// [`maglev::stable_key`] of its address and protocol.
    pub key: u64,
    /// The configured weight.
    pub configured_weight: u32,
    /// Feedback factor of the weight, thousandths.
    pub factor_permille: u32,
    /// Result of the health check; up without a check.
    pub health: Health,
    /// Taken out by the operator or declined: existing connections finish, and it gets no new ones.
    pub out: bool,
}

impl WeightedMember {
    /// The weight for new connections, before feedback.
    pub fn effective_weight(&self) -> u32 {
        match self.health {
            Health::Up if !self.out => self.configured_weight,
            _ => 0,
        }
    }

    /// The weight in the slots, in thousandths of a configured weight.
    fn slots_weight(&self) -> u32 {
        self.effective_weight() * self.factor_permille
    }
}

/// Fills a service's slots. Returns false if no member accepts new connections: the table is then empty, and clients get a
/// reset instead of waiting for a dead backend.
pub fn distribute(slots: &mut [u16], members: &[WeightedMember]) -> bool {
    let candidates: Vec<_> =
        members.iter().map(|m| SlotCandidate { id: m.id, key: m.key, weight: m.slots_weight() }).collect();
    maglev::fill(slots, &candidates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u16, health: Health, out: bool) -> WeightedMember {
        WeightedMember { id, key: u64::from(id) * 7919, configured_weight: 3, factor_permille: 1000, health, out }
    }

    #[test]
    fn a_factor_moves_the_share() {
        let mut slots = vec![0; 1021];
        let light = WeightedMember { factor_permille: 250, ..member(1, Health::Up, false) };
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
