//! Measures the cost of steps and publications from turn durations, and derives the interval between steps.

/// Minimum interval between steps. A publication follows each step that changes something; where publications are expensive
/// (thousands of services), steps become rarer, up to the maximum interval.
const SHORTEST_PAUSE_MS: u64 = 25;
const LONGEST_PAUSE_MS: u64 = 100;
/// Steps and publications may take at most one part in this many of control's time, up to the maximum interval.
const PARTS_OF_TIME: u64 = 10;

/// The last cost of each.
#[derive(Debug, Default)]
pub(super) struct Cost {
    step_us: u64,
    fill_us: u64,
    /// What the current turn does.
    has_stepped: bool,
    has_filled: bool,
}

impl Cost {
    /// Starts a turn; the last one took this long.
    pub fn note(&mut self, last_turn_us: u64) {
        match (std::mem::take(&mut self.has_stepped), std::mem::take(&mut self.has_filled)) {
            (false, false) => {}
            (true, false) => self.step_us = last_turn_us,
            (false, true) => self.fill_us = last_turn_us,
            (true, true) => (self.step_us, self.fill_us) = (0, last_turn_us),
        }
    }

    /// The current turn runs a step.
    pub fn has_stepped(&mut self) {
        self.has_stepped = true;
    }

    /// The current turn fills a generation.
    pub fn has_filled(&mut self) {
        self.has_filled = true;
    }

    /// The interval between steps.
    pub fn pause_ms(&self) -> u64 {
        ((self.step_us + self.fill_us) * PARTS_OF_TIME / 1000).clamp(SHORTEST_PAUSE_MS, LONGEST_PAUSE_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_is_ten_times_what_a_step_and_its_publication_took() {
        let mut cost = Cost::default();
        assert_eq!(cost.pause_ms(), SHORTEST_PAUSE_MS);
        cost.has_stepped();
        cost.note(1_000);
        assert_eq!(cost.pause_ms(), SHORTEST_PAUSE_MS);
        cost.has_filled();
        cost.note(5_000);
        assert_eq!(cost.pause_ms(), 60);
        cost.note(900_000);
        assert_eq!(cost.pause_ms(), 60, "a turn that did neither");
        cost.has_stepped();
        cost.has_filled();
        cost.note(4_000);
        assert_eq!(cost.pause_ms(), 40);
        cost.has_filled();
        cost.note(900_000);
        assert_eq!(cost.pause_ms(), LONGEST_PAUSE_MS);
    }
}
