//! Maglev's consistent hashing (Eisenbud et al., NSDI 2016, section 3.4), with exact weights.
//!
//! Each backend has its own permutation of the slots, derived from its key alone, and takes its next preferred free slot on
//! each of its turns. The weight determines the turns: a backend of half the greatest weight gets a turn in every second
//! round. Each backend stops at its quota, its exact share of the slots rounded to an integer, so that the table deviates
//! by at most one slot for any weights.

use std::net::{IpAddr, SocketAddr};

use siphasher::sip::SipHasher24;

/// An empty slot. No backend may have this id.
pub const NO_BACKEND: u16 = u16::MAX;

// Must never change: another key would move every client of a restarted or upgraded balancer to another backend.
const OFFSET_KEY: (u64, u64) = (0x5368_756e_7420_6f66, 0x6673_6574_206b_6579);
const SKIP_KEY: (u64, u64) = (0x5368_756e_7420_736b, 0x6970_2020_206b_6579);
const BACKEND_KEY: (u64, u64) = (0x5368_756e_7420_6261, 0x636b_656e_6420_6964);

/// A backend that requests slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotCandidate {
    /// The value of its slots; not [`NO_BACKEND`].
    pub id: u16,
    /// Determines its preferred slots: [`stable_key`], not the id, so that renumbering moves no connection.
    pub key: u64,
    /// Its share relative to the sum of all weights; 0 takes no slot.
    pub weight: u32,
}

/// The key of a backend, identical in every build and on every machine.
pub fn stable_key(address: SocketAddr, protocol: u8) -> u64 {
    let ip = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let mut bytes = [0; 19];
    bytes[..16].copy_from_slice(&ip.octets());
    bytes[16..18].copy_from_slice(&address.port().to_be_bytes());
    bytes[18] = protocol;
    SipHasher24::new_with_keys(BACKEND_KEY.0, BACKEND_KEY.1).hash(&bytes)
}

/// Fills `slots`; their count should be a prime of at least a hundred times the number of candidates.
///
/// Returns false, and sets every slot to [`NO_BACKEND`], if no candidate has weight.
pub fn fill(slots: &mut [u16], candidates: &[SlotCandidate]) -> bool {
    slots.fill(NO_BACKEND);
    let mut takers: Vec<SlotCandidate> = candidates.iter().copied().filter(|c| c.weight > 0).collect();
    if slots.is_empty() || takers.is_empty() {
        return false;
    }
    // The result must not depend on the order in the configuration file.
    takers.sort_unstable_by_key(|c| (c.key, c.id));
    let mut permutations: Vec<_> = takers.iter().map(|c| Permutation::new(c.key, slots.len())).collect();
    let mut taken = Taken::new(slots.len());
    for turn in turns(&takers, &quotas(&takers, slots.len()), slots.len()) {
        let slot = permutations[turn].next_free(&taken);
        taken.set(slot);
        slots[slot] = takers[turn].id;
    }
    true
}

/// Slots per taker: the floor of its exact share; the remaining slots go to the largest remainders.
fn quotas(takers: &[SlotCandidate], slots: usize) -> Vec<usize> {
    let sum: u128 = takers.iter().map(|c| u128::from(c.weight)).sum();
    let share = |c: &SlotCandidate| u128::from(c.weight) * slots as u128;
    let mut quotas: Vec<usize> = takers.iter().map(|c| (share(c) / sum) as usize).collect();
    let left_over = slots - quotas.iter().sum::<usize>();
    let mut by_remainder: Vec<usize> = (0..takers.len()).collect();
    // Stable, so that the key decides between equal remainders.
    by_remainder.sort_by_key(|&i| std::cmp::Reverse(share(&takers[i]) % sum));
    for &i in &by_remainder[..left_over] {
        quotas[i] += 1;
    }
    quotas
}

/// The taker of each turn, in order: a counting sort of all turns by round.
fn turns(takers: &[SlotCandidate], quotas: &[usize], slots: usize) -> Vec<usize> {
    let greatest = takers.iter().map(|c| c.weight).max().unwrap_or(1);
    // Turn n of a taker falls into round n * greatest / weight. A quota is below its exact share + 1, so that no round
    // reaches slots * greatest / sum + 1, which is at most slots + 1.
    let round = |taker: usize, n: usize| (n as u128 * u128::from(greatest) / u128::from(takers[taker].weight)) as usize;
    let mut starts = vec![0usize; slots + 2];
    for (taker, &quota) in quotas.iter().enumerate() {
        (0..quota).for_each(|n| starts[round(taker, n) + 1] += 1);
    }
    for i in 1..starts.len() {
        starts[i] += starts[i - 1];
    }
    let mut turns = vec![0; slots];
    for (taker, &quota) in quotas.iter().enumerate() {
        for n in 0..quota {
            let place = &mut starts[round(taker, n)];
            turns[*place] = taker;
            *place += 1;
        }
    }
    turns
}

/// One backend's preference order: `offset + n * skip` modulo the number of slots.
struct Permutation {
    next: usize,
    skip: usize,
    slots: usize,
}

impl Permutation {
    fn new(key: u64, slots: usize) -> Self {
        // 64 bits on every machine, regardless of usize.
        let below = |(k0, k1): (u64, u64), limit: usize| {
            let hash = SipHasher24::new_with_keys(k0, k1).hash(&key.to_be_bytes());
            (hash % limit as u64) as usize
        };
        let mut skip = below(SKIP_KEY, slots.saturating_sub(1).max(1)) + 1;
        // Has no effect if the number of slots is prime; otherwise the walk would miss slots and never end.
        while greatest_common_divisor(skip, slots) != 1 {
            skip += 1;
        }
        Self { next: below(OFFSET_KEY, slots), skip: skip % slots, slots }
    }

    fn next_free(&mut self, taken: &Taken) -> usize {
        loop {
            let slot = self.next;
            self.next += self.skip;
            if self.next >= self.slots {
                self.next -= self.slots;
            }
            if !taken.contains(slot) {
                return slot;
            }
        }
    }
}

fn greatest_common_divisor(mut a: usize, mut b: usize) -> usize {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// One bit per slot: 8 KB for the largest default table, which fits the first-level cache while the slots do not.
struct Taken(Vec<u64>);

impl Taken {
    fn new(slots: usize) -> Self {
        Self(vec![0; slots.div_ceil(64)])
    }

    fn contains(&self, slot: usize) -> bool {
        self.0[slot / 64] & (1 << (slot % 64)) != 0
    }

    fn set(&mut self, slot: usize) {
        self.0[slot / 64] |= 1 << (slot % 64);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(id: u16, weight: u32) -> SlotCandidate {
        let address = SocketAddr::from(([198, 18, (id >> 8) as u8, id as u8], 80));
        SlotCandidate { id, key: stable_key(address, 6), weight }
    }

    fn weighted(weights: &[u32]) -> Vec<SlotCandidate> {
        (0..).zip(weights).map(|(id, &weight)| candidate(id, weight)).collect()
    }

    fn equals(n: u16) -> Vec<SlotCandidate> {
        (0..n).map(|id| candidate(id, 1)).collect()
    }

    fn table(size: usize, candidates: &[SlotCandidate]) -> Vec<u16> {
        let mut slots = vec![0; size];
        assert!(fill(&mut slots, candidates));
        slots
    }

    fn count(slots: &[u16], id: u16) -> usize {
        slots.iter().filter(|&&s| s == id).count()
    }

    /// Of the slots that didn't hold `gone`, the part that changed.
    fn moved(before: &[u16], after: &[u16], gone: u16) -> f64 {
        let others = before.iter().zip(after).filter(|(b, _)| **b != gone);
        let changed = others.clone().filter(|(b, a)| b != a).count();
        changed as f64 / others.count() as f64
    }

    #[test]
    fn key_is_the_same_in_every_build() {
        let v4 = "198.18.1.11:8080".parse().unwrap();
        let mapped = "[::ffff:198.18.1.11]:8080".parse().unwrap();
        assert_eq!(stable_key(v4, 6), stable_key(mapped, 6));
        assert_ne!(stable_key(v4, 6), stable_key(v4, 17));
        assert_eq!(stable_key(v4, 6), 5_642_720_997_348_409_993);
    }

    #[test]
    fn weights_one_to_ten_come_out_as_one_to_ten() {
        let slots = table(65521, &[candidate(1, 1), candidate(2, 10)]);
        assert_eq!((count(&slots, 1), count(&slots, 2)), (5956, 59565));
    }

    #[test]
    fn taking_one_of_a_hundred_out_moves_few_others() {
        let all = equals(100);
        let before = table(65521, &all);
        for gone in [0, 17, 50, 99] {
            let rest: Vec<_> = all.iter().copied().filter(|c| c.id != gone).collect();
            let part = moved(&before, &table(65521, &rest), gone);
            assert!(part <= 0.03, "{part} of the other slots moved");
        }
    }

    #[test]
    fn weight_zero_is_the_same_as_absent() {
        let mut all = equals(10);
        all[3].weight = 0;
        let rest: Vec<_> = all.iter().copied().filter(|c| c.id != 3).collect();
        assert_eq!(table(4099, &all), table(4099, &rest));
    }

    #[test]
    fn nobody_to_take_a_slot_leaves_none_of_the_old_table() {
        let mut slots = table(1021, &equals(3));
        assert!(!fill(&mut slots, &[candidate(1, 0)]));
        assert!(slots.iter().all(|&s| s == NO_BACKEND));
        assert!(!fill(&mut slots, &[]));
        assert!(!fill(&mut [], &equals(1)));
    }

    #[test]
    fn a_size_that_is_no_prime_is_filled_all_the_same() {
        for size in [1, 2, 4, 64, 100, 4096] {
            assert!(!table(size, &equals(7)).contains(&NO_BACKEND));
        }
    }

    proptest! {
        #[test]
        fn shares_are_exact_to_one_slot(
            weights in prop::collection::vec(0u32..=256, 1..60),
            size in prop::sample::select(vec![1021usize, 4099, 16381]),
        ) {
            let all = weighted(&weights);
            let sum: u32 = weights.iter().sum();
            prop_assume!(sum > 0);
            let slots = table(size, &all);
            for c in &all {
                let exact = size as f64 * f64::from(c.weight) / f64::from(sum);
                prop_assert!((count(&slots, c.id) as f64 - exact).abs() < 1.0);
            }
        }

        #[test]
        fn extreme_weights_end(
            weights in prop::collection::vec(prop::sample::select(vec![1u32, 2, 1000, u32::MAX]), 1..20),
        ) {
            prop_assert!(!table(1021, &weighted(&weights)).contains(&NO_BACKEND));
        }

        #[test]
        fn order_and_numbering_do_not_matter(n in 2u16..40, seed in any::<u64>()) {
            let all = equals(n);
            let mut shuffled = all.clone();
            shuffled.sort_by_key(|c| c.key ^ seed);
            prop_assert_eq!(table(4099, &all), table(4099, &shuffled));
        }

        #[test]
        fn taking_one_out_moves_only_a_little(n in 5u16..80, gone in any::<prop::sample::Index>(), weight in 1u32..=4) {
            let all: Vec<_> = (0..n).map(|id| candidate(id, 1 + u32::from(id) % weight)).collect();
            let gone = gone.index(n as usize) as u16;
            let rest: Vec<_> = all.iter().copied().filter(|c| c.id != gone).collect();
            let part = moved(&table(16381, &all), &table(16381, &rest), gone);
            prop_assert!(part <= 0.10, "{} of the other slots moved", part);
        }
    }
}
