//! Ratios of counters' growth over a short window, such as requests over time or busy time over time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Length of the window: the kernel's counters advance in 10 ms steps, which a shorter window would show.
const HORIZON: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy)]
struct Point {
    at: Instant,
    whole: u64,
    part: u64,
}

/// Two counters that grow together, over the last half second.
#[derive(Debug, Default)]
pub(crate) struct Window {
    points: VecDeque<Point>,
}

impl Window {
    /// Records both counters. A counter that decreased was reset, which resets the window.
    pub fn record(&mut self, at: Instant, whole: u64, part: u64) {
        if self.points.back().is_some_and(|last| whole < last.whole || part < last.part) {
            self.points.clear();
        }
        self.points.push_back(Point { at, whole, part });
        while self.points.get(1).is_some_and(|second| at.duration_since(second.at) >= HORIZON) {
            self.points.pop_front();
        }
    }

    /// Growth of `part`, times `scale`, divided by growth of `whole`.
    pub fn ratio(&self, scale: u64) -> Option<u64> {
        let (first, last) = (self.points.front()?, self.points.back()?);
        let whole = u128::from(last.whole - first.whole);
        let part = u128::from(last.part - first.part) * u128::from(scale);
        // Without growth the ratio is unknown.
        part.checked_div(whole).map(|ratio| u64::try_from(ratio).unwrap_or(u64::MAX))
    }
}

/// Microseconds since the agent's first sample; the denominator of a rate.
pub(crate) fn microseconds(since: Instant, now: Instant) -> u64 {
    u64::try_from(now.duration_since(since).as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_measured_over_the_last_half_second() {
        let (begin, mut window) = (Instant::now(), Window::default());
        assert_eq!(window.ratio(1000), None);
        for ms in (0..2000_u64).step_by(50) {
            // 1000 a second at first, 3000 later.
            let count = ms + ms.saturating_sub(1000) * 2;
            window.record(begin + Duration::from_millis(ms), ms * 1000, count);
        }
        assert_eq!(window.ratio(1_000_000), Some(3000), "each second");
    }

    #[test]
    fn a_counter_begun_anew_makes_no_growth() {
        let (begin, mut window) = (Instant::now(), Window::default());
        window.record(begin, 1000, 1000);
        window.record(begin + Duration::from_millis(50), 2000, 5);
        assert_eq!(window.ratio(1000), None);
        window.record(begin + Duration::from_millis(100), 3000, 105);
        assert_eq!(window.ratio(1000), Some(100));
    }

    #[test]
    fn the_largest_counters_do_not_overflow() {
        let (begin, mut window) = (Instant::now(), Window::default());
        window.record(begin, 0, 0);
        window.record(begin, 1, u64::MAX);
        assert_eq!(window.ratio(u64::MAX), Some(u64::MAX));
    }
}
