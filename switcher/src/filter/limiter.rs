//! Rate limit for answers: resets, ICMP errors and echo replies to one group of sources share a token bucket.
//!
//! Without it, forged sources could turn Shunt's answers against a third party. Private to a switcher.

use shunt_shmlayout::address::Address;

/// Answers per second to one source.
const RATE: u64 = 1000;
/// Largest burst of answers.
const BURST: u64 = 1000;
/// Buckets; sources that share one share its tokens.
const BUCKETS: usize = 4096;

/// Token buckets, by a hash of the source.
pub struct Limiter {
    /// When the bucket would be full again, in units of 1 / RATE second.
    full_at: Box<[u64; BUCKETS]>,
}

impl Default for Limiter {
    fn default() -> Self {
        Self { full_at: Box::new([0; BUCKETS]) }
    }
}

impl Limiter {
    /// Takes one token, if there is one (the generic cell rate algorithm: one word a bucket).
    pub fn allows(&mut self, source: &Address, now_ms: u64) -> bool {
        let [a, b] = source.words();
        let bucket = (a ^ b.rotate_left(31)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
        let now = now_ms * RATE / 1000;
        let full_at = &mut self.full_at[bucket as usize % BUCKETS];
        let next = (*full_at).max(now) + 1;
        let allowed = next - now <= BURST;
        if allowed {
            *full_at = next;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate_and_others_are_unharmed() {
        let mut limiter = Limiter::default();
        let (one, other) = (Address::from_v4([198, 18, 0, 1]), Address::from_v4([198, 18, 7, 7]));
        let mut allowed = |source, now_ms, tries| (0..tries).filter(|_| limiter.allows(source, now_ms)).count() as u64;
        assert_eq!(allowed(&one, 5000, 3000), BURST);
        assert_eq!(allowed(&one, 5100, 3000), RATE / 10);
        assert_eq!(allowed(&other, 5100, 1), 1);
        assert_eq!(allowed(&one, 60_000, 3000), BURST);
    }
}
