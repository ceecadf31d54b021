//! Time-based exponential smoothing, so that the report rate does not affect the weight of a sample.

/// A smoothed value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Smoothed {
    value: Option<f64>,
    /// Time of the last sample.
    last_ms: u64,
}

impl Smoothed {
    /// Adds a sample; the first counts in full. `None` changes nothing.
    pub fn add(&mut self, sample: Option<f64>, now_ms: u64, smoothing_ms: f64) {
        let Some(sample) = sample else { return };
        let elapsed_ms = now_ms.saturating_sub(self.last_ms) as f64;
        let share = if smoothing_ms > 0.0 { 1.0 - (-elapsed_ms / smoothing_ms).exp() } else { 1.0 };
        self.value = Some(self.value.map_or(sample, |value| value + share * (sample - value)));
        self.last_ms = now_ms;
    }

    /// The current value, if there was a sample.
    pub fn value(&self) -> Option<f64> {
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_shows_by_63_percent_after_its_time_however_often_it_is_told() {
        for parts in [1, 2, 50] {
            let mut smoothed = Smoothed::default();
            smoothed.add(Some(0.0), 1000, 200.0);
            (1..=parts).for_each(|part| smoothed.add(Some(100.0), 1000 + part * 200 / parts, 200.0));
            assert!((smoothed.value().unwrap() - 63.2).abs() < 0.1, "{smoothed:?}");
        }
    }

    #[test]
    fn the_first_counts_whole_and_none_changes_nothing() {
        let mut smoothed = Smoothed::default();
        smoothed.add(None, 1, 200.0);
        assert_eq!(smoothed.value(), None);
        smoothed.add(Some(7.0), 2, 200.0);
        smoothed.add(None, 3, 200.0);
        assert_eq!(smoothed.value(), Some(7.0));
        smoothed.add(Some(9.0), 3, 0.0);
        assert_eq!(smoothed.value(), Some(9.0));
    }
}
