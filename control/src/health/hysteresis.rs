//! Derives a backend's health from results: up after `rise` successes in a row, down after `fall` failures. Pure.

use super::Health;

/// The state of one check. A single contrary result changes nothing unless rise or fall is 1.
#[derive(Clone, Debug)]
pub struct Hysteresis {
    health: Health,
    /// Consecutive results that contradict `health`.
    contrary: u32,
    rise: u32,
    fall: u32,
}

impl Hysteresis {
    /// Starts with `initial`; 0 for `rise` or `fall` means 1.
    pub fn new(initial: Health, rise: u32, fall: u32) -> Self {
        Self { health: initial, contrary: 0, rise: rise.max(1), fall: fall.max(1) }
    }

    /// Records a result; returns the new health if it changed.
    pub fn record(&mut self, passed: bool) -> Option<Health> {
        let (agrees, needed, other) = match self.health {
            Health::Up => (passed, self.fall, Health::Down),
            Health::Down => (!passed, self.rise, Health::Up),
        };
        self.contrary = if agrees { 0 } else { self.contrary + 1 };
        if self.contrary < needed {
            return None;
        }
        self.contrary = 0;
        self.health = other;
        Some(other)
    }

    /// The current health.
    pub fn health(&self) -> Health {
        self.health
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(mut state: Hysteresis, results: &str) -> Vec<(usize, Health)> {
        let results = results.bytes().enumerate();
        results.filter_map(|(i, r)| state.record(r == b'+').map(|health| (i, health))).collect()
    }

    #[test]
    fn falls_after_fall_failures_in_a_row() {
        let state = Hysteresis::new(Health::Up, 2, 3);
        assert_eq!(changes(state, "--+--+---"), [(8, Health::Down)]);
    }

    #[test]
    fn rises_after_rise_successes_in_a_row() {
        let state = Hysteresis::new(Health::Down, 2, 3);
        assert_eq!(changes(state, "+-+-++"), [(5, Health::Up)]);
    }

    #[test]
    fn says_each_change_once() {
        let state = Hysteresis::new(Health::Up, 2, 2);
        assert_eq!(changes(state, "----++++--"), [(1, Health::Down), (5, Health::Up), (9, Health::Down)]);
    }

    #[test]
    fn zero_counts_as_one() {
        let state = Hysteresis::new(Health::Up, 0, 0);
        assert_eq!(changes(state, "-+"), [(0, Health::Down), (1, Health::Up)]);
    }

    #[test]
    fn a_flapping_backend_keeps_its_health() {
        assert_eq!(changes(Hysteresis::new(Health::Up, 2, 3), &"-+".repeat(100)), []);
    }
}
