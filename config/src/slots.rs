//! Chooses the number of slots of a service's table. It is prime, because the Maglev fill walks the table in steps that
//! must reach every slot (Eisenbud et al., NSDI 2016, section 3.4).

/// Default sizes.
const SIZES: [u32; 4] = [1021, 4099, 16_381, 65_521];

/// Slots per back-end at which shares are even to about one percent.
const SLOTS_PER_BACKEND: u32 = 100;

/// The default size: at least 100 slots per back-end and one per unit of weight, so that a back-end of weight 1 among heavy
/// ones still gets its share. Back-ends of weight 0 count, so that draining one does not change the size, which would move
/// every connection choice.
pub(crate) fn choose_size(weights: &[u16]) -> u32 {
    let backends = u32::try_from(weights.len()).unwrap_or(u32::MAX);
    let weight_sum = weights.iter().fold(0_u32, |sum, &weight| sum.saturating_add(weight.into()));
    let wanted = backends.saturating_mul(SLOTS_PER_BACKEND).max(weight_sum);
    let largest = SIZES[SIZES.len() - 1];
    SIZES.into_iter().find(|&size| size >= wanted).unwrap_or(largest)
}

/// Trial division: tables are small and read once.
pub(crate) fn is_prime(number: u32) -> bool {
    let divisors = (2..).take_while(|divisor: &u32| divisor.saturating_mul(*divisor) <= number);
    number >= 2 && divisors.into_iter().all(|divisor| !number.is_multiple_of(divisor))
}

/// The smallest prime that is at least `number`, far enough below the end of the range.
pub(crate) fn next_prime(number: u32) -> u32 {
    (number..).find(|&candidate| is_prime(candidate)).unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_are_prime() {
        assert!(SIZES.into_iter().all(is_prime));
        let small: Vec<u32> = (0..30).filter(|&number| is_prime(number)).collect();
        assert_eq!(small, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert_eq!(next_prime(1022), 1031);
    }

    #[test]
    fn a_hundred_slots_a_backend() {
        for (backends, size) in [(1, 1021), (10, 1021), (11, 4099), (40, 4099), (41, 16_381), (655, 65_521)] {
            assert_eq!(choose_size(&vec![1; backends]), size, "{backends} back-ends");
        }
        assert_eq!(choose_size(&vec![1; 5000]), 65_521);
    }

    #[test]
    fn heavy_weights_take_a_larger_table_and_drained_ones_none_smaller() {
        assert_eq!(choose_size(&[256, 256, 256, 255, 1]), 4099);
        assert_eq!(choose_size(&[1; 11]), choose_size(&[0; 11]));
    }
}
