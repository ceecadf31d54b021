//! Two choices: of two backends drawn by weight, the lighter (Mitzenmacher, "The Power of Two Choices in Randomized Load
//! Balancing", 2001). None is drawn more often than its weight says, so that one which seems idle isn't run down.

use super::{Pool, below};

/// The lighter of two different backends.
pub fn lightest(pool: &impl Pool, hash: u64) -> Option<usize> {
    let one = draw(pool, None, hash as u32)?;
    let Some(other) = draw(pool, Some(one), (hash >> 32) as u32) else { return Some(one) };
    let load = |index| u64::from(pool.load(index).in_flight) + 1;
    let is_lighter = load(other) * u64::from(pool.weight(one)) < load(one) * u64::from(pool.weight(other));
    Some(if is_lighter { other } else { one })
}

/// One of the others than `except`, each as often as its weight says.
fn draw(pool: &impl Pool, except: Option<usize>, hash: u32) -> Option<usize> {
    let others = || (0..pool.count()).filter(|index| Some(*index) != except);
    let mut left = below(others().map(|index| u64::from(pool.weight(index))).sum(), hash);
    for index in others() {
        match left.checked_sub(pool.weight(index).into()) {
            Some(rest) => left = rest,
            None => return Some(index),
        }
    }
    None
}
