//! What a server can say of itself. An agent cuts its loads to these limits; beyond them it is broken or lies, and control
//! drops its report whole: a part of it would be as wrong.

use std::num::NonZeroU32;

use super::Load;

/// More requests, clients or workers than a server of today has at a time.
pub const MOST_AT_A_TIME: u32 = 10_000_000;
/// An hour.
pub const LONGEST_EXECUTION_US: u32 = 3_600_000_000;
/// Four million requests at work, in thousandths.
pub const MOST_BUSY_MILLI: u32 = 4_000_000_000;
/// Ten million a second.
pub const MOST_REQUESTS_PER_S_MILLI: u64 = 10_000_000_000;
/// All of it.
pub const WHOLE_PERMILLE: u16 = 1000;

impl Load {
    /// The same within the limits.
    pub fn bounded(self) -> Self {
        let at_a_time = |number: Option<u32>| number.map(|number| number.min(MOST_AT_A_TIME));
        let share = |permille: Option<u16>| permille.map(|permille| permille.min(WHOLE_PERMILLE));
        let most_workers = NonZeroU32::new(MOST_AT_A_TIME);
        Self {
            clients: at_a_time(self.clients),
            in_flight: at_a_time(self.in_flight),
            cpu_permille: share(self.cpu_permille),
            memory_permille: share(self.memory_permille),
            execution_us: self.execution_us.map(|us| us.min(LONGEST_EXECUTION_US)),
            requests_per_s_milli: self.requests_per_s_milli.map(|rate| rate.min(MOST_REQUESTS_PER_S_MILLI)),
            // `None` is less than any number.
            workers: self.workers.min(most_workers),
            busy_milli: self.busy_milli.map(|busy| busy.min(MOST_BUSY_MILLI)),
            ..self
        }
    }

    /// Whether nothing is beyond the limits.
    pub fn is_bounded(&self) -> bool {
        *self == self.clone().bounded()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_numbers_are_cut_and_others_stay() {
        let largest = Load {
            clients: Some(u32::MAX),
            in_flight: Some(u32::MAX),
            cpu_permille: Some(u16::MAX),
            memory_permille: Some(u16::MAX),
            execution_us: Some(u32::MAX),
            requests_per_s_milli: Some(u64::MAX),
            workers: NonZeroU32::new(u32::MAX),
            busy_milli: Some(u32::MAX),
            ..Load::unknown("b1".parse().unwrap())
        };
        assert!(!largest.is_bounded() && largest.clone().bounded().is_bounded());
        assert_eq!(largest.bounded().busy_milli, Some(MOST_BUSY_MILLI));
        let unknown = Load::unknown("b1".parse().unwrap());
        assert_eq!(unknown.clone().bounded(), unknown);
    }
}
