//! Random numbers that are the same in every build and for every device compared: SplitMix64 (Steele et al., OOPSLA 2014).

/// A sequence that its seed decides.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed; sequences of neighbouring seeds have nothing in common.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Evenly spread, above 0 and up to 1: its logarithm is finite.
    pub fn uniform(&mut self) -> f64 {
        ((self.word() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Exponential: the time between two arrivals of a Poisson process.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.uniform().ln()
    }

    /// Normal with mean 0 and deviation 1 (Box and Muller).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Log-normal with this mean; `sigma` is the deviation of its logarithm.
    pub fn log_normal(&mut self, mean: f64, sigma: f64) -> f64 {
        mean * (sigma * self.normal() - sigma * sigma / 2.0).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_of(count: u32, mut draw: impl FnMut() -> f64) -> f64 {
        (0..count).map(|_| draw()).sum::<f64>() / f64::from(count)
    }

    #[test]
    fn both_distributions_have_the_mean_they_are_asked_for() {
        let mut random = Random::new(1);
        let exponential = mean_of(200_000, || random.exponential(20.0));
        let log_normal = mean_of(200_000, || random.log_normal(20.0, 1.0));
        assert!((19.5..20.5).contains(&exponential), "{exponential}");
        assert!((19.5..20.5).contains(&log_normal), "{log_normal}");
    }

    #[test]
    fn a_seed_decides_the_sequence_and_another_gives_another() {
        let sequence = |seed| {
            let mut random = Random::new(seed);
            [random.word(), random.word(), random.word()]
        };
        assert_eq!(sequence(7), sequence(7));
        assert!(sequence(7).iter().all(|word| !sequence(8).contains(word)));
    }
}
