//! Limits of reported values. An agent clamps its loads to them. Control rejects a report that exceeds one, because the
//! agent is faulty or malicious and none of its values can be trusted.

use std::num::NonZeroU32;

use super::ReportedLoad;

/// Limit of concurrent requests, clients and workers.
pub const MOST_AT_A_TIME: u32 = 10_000_000;
/// One hour.
pub const LONGEST_EXECUTION_US: u32 = 3_600_000_000;
/// Four million executing requests, in thousandths.
pub const MOST_BUSY_MILLI: u32 = 4_000_000_000;
/// Ten million requests per second, in thousandths.
pub const MOST_REQUESTS_PER_S_MILLI: u64 = 10_000_000_000;
/// 100 %.
pub const WHOLE_PERMILLE: u16 = 1000;

impl ReportedLoad {
    /// Clamps every value to its limit.
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

    /// Returns true if every value is within its limit.
    pub fn is_bounded(&self) -> bool {
        *self == self.clone().bounded()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_numbers_are_cut_and_others_stay() {
        let largest = ReportedLoad {
            clients: Some(u32::MAX),
            in_flight: Some(u32::MAX),
            cpu_permille: Some(u16::MAX),
            memory_permille: Some(u16::MAX),
            execution_us: Some(u32::MAX),
            requests_per_s_milli: Some(u64::MAX),
            workers: NonZeroU32::new(u32::MAX),
            busy_milli: Some(u32::MAX),
            ..ReportedLoad::unknown("b1".parse().unwrap())
        };
        assert!(!largest.is_bounded() && largest.clone().bounded().is_bounded());
        assert_eq!(largest.bounded().busy_milli, Some(MOST_BUSY_MILLI));
        let unknown = ReportedLoad::unknown("b1".parse().unwrap());
        assert_eq!(unknown.clone().bounded(), unknown);
    }
}
