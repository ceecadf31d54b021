//! The Internet checksum: in full (RFC 1071) and by difference (RFC 1624, equation 3).
//!
//! Owns the arithmetic; the protocol files and [`rewrite`](super::rewrite) own the fields it goes into.

/// Sum of 16-bit words in network order, not yet folded. Add sums together freely: 65535 bytes stay far below 64 bits.
/// An odd last byte counts as the high half of a word (RFC 1071 2), so only the last part of a sum may be odd.
#[inline]
pub fn sum(bytes: &[u8]) -> u64 {
    // Four bytes at a time: the high half of such a word folds onto the low half.
    let (words, rest) = bytes.as_chunks::<4>();
    let words: u64 = words.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    words + u64::from(u32::from_be_bytes(last))
}

/// The one's complement sum in 16 bits; zero only if everything summed was zero.
#[inline]
pub const fn fold(sum: u64) -> u16 {
    // Added to itself with its halves exchanged, a number has in its upper half the sum of both with the carry let in.
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// The checksum of what `sum` was taken over, its own field being zero.
#[inline]
pub const fn finish(sum: u64) -> u16 {
    !fold(sum)
}

/// Whether bytes that contain their checksum add up.
#[inline]
pub fn verify(sum: u64) -> bool {
    fold(sum) == 0xffff
}

/// Sum of the pseudo-header that TCP (RFC 9293 3.1) and UDP (RFC 768) share over IPv4.
#[inline]
pub fn pseudo_header(source: [u8; 4], destination: [u8; 4], protocol: u8, length: u16) -> u64 {
    sum(&source) + sum(&destination) + u64::from(protocol) + u64::from(length)
}

/// Whether the checksum at offset `field` of a transport packet is only begun: it is the pseudo-header's sum, to which a
/// device was to add the rest (Linux: CHECKSUM_PARTIAL). A complete checksum has the same value by chance once in 65536
/// packets; then all of the packet is summed.
#[inline]
pub fn is_unfilled(pseudo_header: u64, transport: &[u8], field: usize) -> bool {
    let begun = fold(pseudo_header).to_be_bytes();
    transport.get(field..).is_some_and(|rest| rest.starts_with(&begun)) && !verify(pseudo_header + sum(transport))
}

/// What replacing some words does to every checksum that covers them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Difference(u64);

impl Difference {
    /// One 16-bit word replaced.
    #[inline]
    pub fn word(self, old: u16, new: u16) -> Self {
        Self(self.0 + u64::from(!old) + u64::from(new))
    }

    /// One IPv4 address replaced.
    #[inline]
    pub fn address(self, old: [u8; 4], new: [u8; 4]) -> Self {
        Self(self.0 + u64::from(!u32::from_be_bytes(old)) + u64::from(u32::from_be_bytes(new)))
    }

    /// The checksum after the replacement: HC' = ~(~HC + ~m + m'), RFC 1624 equation 3. Equation 4 of RFC 1141 would give
    /// 0xFFFF where 0 is right.
    #[inline]
    pub fn apply(self, checksum: u16) -> u16 {
        finish(self.0 + u64::from(!checksum))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 as written, word by word.
    fn by_the_book(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn example_of_rfc_1071() {
        assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
    }

    #[test]
    fn example_of_rfc_1624() {
        // Section 4: 0xDD2F with 0x5555 becoming 0x3285 is 0, which RFC 1141 got as 0xFFFF.
        assert_eq!(Difference::default().word(0x5555, 0x3285).apply(0xdd2f), 0);
    }

    #[test]
    fn fold_carries_to_the_end() {
        assert_eq!(fold(u64::MAX), 0xffff);
        assert_eq!(fold(0xffff_ffff_0000_0001), 1);
        assert_eq!(fold(0), 0);
    }

    #[test]
    fn a_complete_checksum_that_looks_begun_is_complete() {
        for pseudo_header in [1, 0x1234, 0xfffe, 0x1_0000] {
            let begun = fold(pseudo_header);
            // With this word before the checksum, the complete one has the begun one's value.
            let word = fold(2 * u64::from(!begun)).to_be_bytes();
            let [high, low] = begun.to_be_bytes();
            assert!(!is_unfilled(pseudo_header, &[word[0], word[1], high, low], 2));
            assert!(is_unfilled(pseudo_header, &[word[0] ^ 1, word[1], high, low], 2));
        }
        assert!(!is_unfilled(1, &[], 2));
    }

    proptest! {
        #[test]
        fn full_sum_is_rfc_1071(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(finish(sum(&bytes)), by_the_book(&bytes));
        }

        #[test]
        fn fold_is_the_remainder(value in 1..u64::MAX) {
            // One's complement arithmetic is arithmetic modulo 65535 with 65535 for 0.
            prop_assert_eq!(u64::from(fold(value)) % 0xffff, value % 0xffff);
            prop_assert_ne!(fold(value), 0);
        }

        #[test]
        fn difference_is_recomputation(
            mut bytes in prop::collection::vec(any::<u8>(), 8..60), first in 1u8.., new in any::<[u8; 4]>(), word in any::<u16>(),
        ) {
            bytes[6] = first; // A header is never all zero.
            let old: [u8; 4] = bytes[..4].try_into().unwrap();
            let old_word = u16::from_be_bytes([bytes[4], bytes[5]]);
            let difference = Difference::default().address(old, new).word(old_word, word);
            let before = finish(sum(&bytes));
            bytes[..4].copy_from_slice(&new);
            bytes[4..6].copy_from_slice(&word.to_be_bytes());
            prop_assert_eq!(difference.apply(before), finish(sum(&bytes)));
        }
    }
}
