//! Decides which neighbours the kernel must resolve, and when. Pure: the caller supplies clock and cache.
//!
//! Switchers know only the Ethernet addresses in the ARP cache, so control makes the kernel resolve missing ones and
//! confirm known ones, although the kernel sends no packets there. There are two kinds: backends and gateways while they
//! are configured, and addresses that a switcher did not find, for a limited time.

use std::collections::{BTreeMap, BTreeSet};

use shunt_routing::event::{Neighbour, NeighbourKey, NeighbourState};

/// Minimum interval for confirming a STALE entry: the kernel needs 5 s (delay_first_probe_time).
const CONFIRM_INTERVAL_MS: u64 = 1_000;
/// Delay after a first failed attempt; the kernel itself tries for 3 s (mcast_solicit * retrans_time).
const FIRST_BACKOFF_MS: u64 = 1_000;
const LONGEST_BACKOFF_MS: u64 = 30_000;
/// Lifetime of a switcher's request that is not repeated.
const WISH_LIFETIME_MS: u64 = 300_000;
/// Limit of requests: they come from packets, so a subnet scan must not grow the list without bound.
const MAX_REQUESTS: usize = 4_096;

/// The requested neighbours, and the state of each.
#[derive(Debug, Default)]
pub struct Resolver {
    kept: BTreeSet<NeighbourKey>,
    /// Switchers' requests, and when each was last repeated, ms.
    requests: BTreeMap<NeighbourKey, u64>,
    attempts: BTreeMap<NeighbourKey, Attempt>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Attempt {
    not_before_ms: u64,
    backoff_ms: u64,
}

impl Resolver {
    /// Sets the neighbours to keep resolved: next hops of backends and gateways.
    pub fn keep(&mut self, kept: impl IntoIterator<Item = NeighbourKey>) {
        self.kept = kept.into_iter().collect();
        let Self { kept, requests, attempts } = self;
        attempts.retain(|key, _| kept.contains(key) || requests.contains_key(key));
    }

    /// Adds a switcher's request. Returns false if there are too many.
    pub fn request(&mut self, key: NeighbourKey, now_ms: u64) -> bool {
        if self.requests.len() >= MAX_REQUESTS && !self.requests.contains_key(&key) {
            return false;
        }
        self.requests.insert(key, now_ms);
        true
    }

    /// The neighbours that the kernel should resolve now. Returning one counts as an attempt.
    pub fn due(&mut self, known: &BTreeMap<NeighbourKey, Neighbour>, now_ms: u64) -> Vec<NeighbourKey> {
        self.forget_old_wishes(now_ms);
        let mut due = Vec::new();
        for key in self.kept.union(&self.requests.keys().copied().collect()) {
            let attempt = self.attempts.entry(*key).or_default();
            if attempt.is_due(known.get(key).map(|n| n.state), now_ms) {
                due.push(*key);
            }
        }
        due
    }

    fn forget_old_wishes(&mut self, now_ms: u64) {
        let Self { kept, requests, attempts } = self;
        requests.retain(|key, &mut at_ms| {
            let live = now_ms.saturating_sub(at_ms) < WISH_LIFETIME_MS;
            if !live && !kept.contains(key) {
                attempts.remove(key);
            }
            live
        });
    }
}

impl Attempt {
    fn is_due(&mut self, state: Option<NeighbourState>, now_ms: u64) -> bool {
        use NeighbourState as State;
        match state {
            Some(State::Reachable | State::Verifying | State::Permanent) => {
                *self = Self::default();
                false
            }
            // The kernel is resolving it.
            Some(State::Incomplete) => false,
            _ if now_ms < self.not_before_ms => false,
            Some(State::Stale) => {
                *self = Self { not_before_ms: now_ms + CONFIRM_INTERVAL_MS, backoff_ms: 0 };
                true
            }
            Some(State::Failed) | None => {
                let backoff_ms = (self.backoff_ms * 2).clamp(FIRST_BACKOFF_MS, LONGEST_BACKOFF_MS);
                *self = Self { not_before_ms: now_ms + backoff_ms, backoff_ms };
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(last: u8) -> NeighbourKey {
        NeighbourKey { ifindex: 1, address: [198, 18, 1, last].into() }
    }

    fn known(state: NeighbourState) -> BTreeMap<NeighbourKey, Neighbour> {
        BTreeMap::from([(key(1), Neighbour { key: key(1), mac: Some([2; 6]), state })])
    }

    fn kept() -> Resolver {
        let mut resolver = Resolver::default();
        resolver.keep([key(1)]);
        resolver
    }

    /// The seconds of the first five minutes in which the kernel is asked.
    fn asked_at(resolver: &mut Resolver, known: &BTreeMap<NeighbourKey, Neighbour>) -> Vec<u64> {
        (0..300).filter(|s| !resolver.due(known, s * 1000).is_empty()).collect()
    }

    #[test]
    fn an_unknown_one_is_asked_for_at_once_and_then_less_and_less() {
        let at = asked_at(&mut kept(), &BTreeMap::new());
        assert_eq!(at[..8], [0, 1, 3, 7, 15, 31, 61, 91]);
        assert_eq!(asked_at(&mut kept(), &known(NeighbourState::Failed))[..4], [0, 1, 3, 7]);
    }

    #[test]
    fn a_stale_one_is_asked_for_steadily_and_others_are_left_alone() {
        assert_eq!(asked_at(&mut kept(), &known(NeighbourState::Stale)).len(), 300);
        use NeighbourState::{Incomplete, Permanent, Reachable, Verifying};
        for state in [Incomplete, Reachable, Verifying, Permanent] {
            assert!(asked_at(&mut kept(), &known(state)).is_empty(), "{state:?}");
        }
    }

    #[test]
    fn an_answer_ends_the_back_off() {
        let mut resolver = kept();
        (0..100).for_each(|s| drop(resolver.due(&BTreeMap::new(), s * 1000)));
        assert!(resolver.due(&known(NeighbourState::Reachable), 100_000).is_empty());
        assert_eq!(resolver.due(&BTreeMap::new(), 100_001), [key(1)]);
    }

    #[test]
    fn a_wish_is_forgotten_unless_repeated() {
        let mut resolver = Resolver::default();
        assert!(resolver.request(key(2), 0));
        assert_eq!(resolver.due(&BTreeMap::new(), 0), [key(2)]);
        assert_eq!(resolver.due(&BTreeMap::new(), WISH_LIFETIME_MS - 1), [key(2)]);
        assert!(resolver.due(&BTreeMap::new(), WISH_LIFETIME_MS * 2).is_empty());
        assert!(resolver.attempts.is_empty());
    }

    #[test]
    fn wishes_are_bounded() {
        let mut resolver = Resolver::default();
        let request = |n: u32| NeighbourKey { ifindex: 1, address: std::net::Ipv4Addr::from_bits(n).into() };
        assert!((0..MAX_REQUESTS as u32).all(|n| resolver.request(request(n), 0)));
        assert!(!resolver.request(request(u32::MAX), 0));
        assert!(resolver.request(request(0), 1), "a known request can always be repeated");
    }

    #[test]
    fn what_is_kept_no_longer_is_not_asked_for() {
        let mut resolver = kept();
        resolver.keep([key(3)]);
        assert_eq!(resolver.due(&BTreeMap::new(), 0), [key(3)]);
    }
}
