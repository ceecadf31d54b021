//! Random numbers that a seed repeats.

use std::ops::RangeInclusive;

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of these.
    pub fn among(&mut self, range: RangeInclusive<u8>) -> u8 {
        let count = u64::from(range.end() - range.start()) + 1;
        range.start() + (self.next() % count) as u8
    }
}
