//! Power of two choices: of two backends drawn by weight, the one with less load (Mitzenmacher, "The Power of Two Choices in
//! Randomized Load Balancing", 2001). None is drawn more often than its weight allows, so that a backend which seems idle isn't
//! overrun.

use super::{Pool, below};

/// The less loaded of two different backends.
pub fn lightest(pool: &impl Pool, hash: u64) -> Option<usize> {
    let all = (0..pool.count()).map(|index| u64::from(pool.weight(index))).sum();
    let one = draw(pool, None, below(all, hash as u32))?;
    let others = all - u64::from(pool.weight(one));
    let Some(other) = draw(pool, Some(one), below(others, (hash >> 32) as u32)) else { return Some(one) };
    let load = |index| u64::from(pool.load(index).in_flight) + 1;
    let is_lighter = load(other) * u64::from(pool.weight(one)) < load(one) * u64::from(pool.weight(other));
    Some(if is_lighter { other } else { one })
}

/// The backend at this position of the cumulative weights, leaving out `except`.
fn draw(pool: &impl Pool, except: Option<usize>, mut left: u64) -> Option<usize> {
    for index in (0..pool.count()).filter(|index| Some(*index) != except) {
        match left.checked_sub(pool.weight(index).into()) {
            Some(rest) => left = rest,
            None => return Some(index),
        }
    }
    None
}
