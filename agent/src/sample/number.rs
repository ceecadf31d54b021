//! Parses decimal numbers as fixed-point integers.

use std::num::NonZeroU32;

/// Parses digits with at most one point, in units of 10^-`places`; truncates the rest.
pub(crate) fn fixed_point(text: &str, places: usize) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let are_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    let fraction = fraction.bytes().chain(std::iter::repeat(b'0')).take(places);
    whole
        .bytes()
        .chain(fraction)
        .try_fold(0_u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

/// Converts a float to an integer in units of 1/`scale`; `None` if it is not a valid count.
pub(crate) fn scaled(value: f64, scale: f64) -> Option<u64> {
    // Rounded: 0.58 s times a million is a little less than 580000 us.
    let value = (value * scale).round();
    // Float casts saturate; 2^64 is rejected anyway, since it is no measurement.
    (value >= 0.0 && value < u64::MAX as f64).then_some(value as u64)
}

/// Converts `value`, saturating at `most`.
pub(crate) fn narrowed<T: TryFrom<u64>>(value: u64, most: T) -> T {
    T::try_from(value).unwrap_or(most)
}

/// A number of workers; `None` for a gauge of 0, which means unknown.
pub(crate) fn workers(value: u64) -> Option<NonZeroU32> {
    NonZeroU32::new(narrowed(value, u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_become_integers() {
        for (text, places, value) in [
            ("12", 3, Some(12_000)),
            ("12.5", 3, Some(12_500)),
            ("0.00099", 3, Some(0)),
            (".5", 1, Some(5)),
            ("5.", 1, Some(50)),
            ("18446744073709551615", 0, Some(u64::MAX)),
            ("18446744073709551616", 0, None),
            ("", 3, None),
            (".", 3, None),
            ("1.2.3", 3, None),
            ("-1", 3, None),
            ("+1", 3, None),
            ("1e3", 3, None),
        ] {
            assert_eq!(fixed_point(text, places), value, "{text}");
        }
    }

    #[test]
    fn floats_that_are_no_counts_are_nothing() {
        assert_eq!(scaled(1.5, 1e6), Some(1_500_000));
        assert!((0..10_000_u64).all(|ms| scaled(ms as f64 / 1e3, 1e6) == Some(ms * 1000)));
        for value in [f64::NAN, f64::INFINITY, -1.0, 1e30] {
            assert_eq!(scaled(value, 1.0), None, "{value}");
        }
    }
}
