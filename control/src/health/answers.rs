//! Detects backends that pass their checks but answer none of the connections from switchers: their replies bypass Shunt
//! (mode `nat`). Pure.
//!
//! A client can cause this: a backend's firewall or strict reverse-path filter drops SYNs from some addresses, and a client
//! can forge those. Therefore the status is a notice for a backend that has ever answered.

use std::collections::BTreeMap;

use shunt_shmlayout::address::BackendId;

/// Minimum of unanswered connections: fewer may be lost packets.
const FEWEST: u64 = 5;
/// Minimum duration: a backend that has just started to listen, or whose queue is full, answers within seconds (RFC 6298).
const PATIENCE_MS: u64 = 10_000;

/// Sum of all switchers' counters for a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Connections created.
    pub opened: u64,
    /// Time of its last answer; 0 if none.
    pub answered_ms: u64,
}

/// Silence since a backend's last answer.
#[derive(Clone, Copy, Debug)]
struct Silence {
    /// When the silence was first observed.
    begun: Seen,
    opened: u64,
    /// When a connection during the silence was first observed.
    pending_since_ms: Option<u64>,
    is_told: bool,
}

/// A backend that does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// Connections since its last answer.
    pub connections: u64,
    /// Age of the first of them.
    pub age_ms: u64,
    /// Whether it has ever answered one.
    pub has_answered: bool,
}

/// The silence of each backend whose replies must pass through the switchers.
#[derive(Debug, Default)]
pub struct Answers(BTreeMap<BackendId, Silence>);

impl Answers {
    /// Updates all such backends; drops others. Returns those newly found silent.
    pub fn look(&mut self, seen: &BTreeMap<BackendId, Seen>, now_ms: u64) -> Vec<BackendId> {
        self.0.retain(|id, _| seen.contains_key(id));
        for (id, seen) in seen {
            self.0.entry(*id).or_insert(Silence::of(*seen)).look(*seen, now_ms);
        }
        let is_news = |silence: &Silence| silence.unanswered(now_ms).is_some() && !silence.is_told;
        let news = self.0.iter_mut().filter(|(_, silence)| is_news(silence));
        let tell = |(id, silence): (&BackendId, &mut Silence)| {
            silence.is_told = true;
            *id
        };
        news.map(tell).collect()
    }

    /// The silent backends.
    pub fn unanswered(&self, now_ms: u64) -> impl Iterator<Item = (BackendId, Unanswered)> {
        self.0.iter().filter_map(move |(id, silence)| Some((*id, silence.unanswered(now_ms)?)))
    }

    /// Restarts, for example after a reload, which may have changed the mode.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

impl Silence {
    fn of(seen: Seen) -> Self {
        Self { begun: seen, opened: seen.opened, pending_since_ms: None, is_told: false }
    }

    fn look(&mut self, seen: Seen, now_ms: u64) {
        if seen.answered_ms != self.begun.answered_ms {
            *self = Self::of(seen);
        }
        self.opened = seen.opened;
        if self.opened != self.begun.opened {
            self.pending_since_ms.get_or_insert(now_ms);
        }
    }

    fn unanswered(&self, now_ms: u64) -> Option<Unanswered> {
        let connections = self.opened.wrapping_sub(self.begun.opened);
        let age_ms = now_ms.saturating_sub(self.pending_since_ms?);
        let has_answered = self.begun.answered_ms != 0;
        (connections >= FEWEST && age_ms >= PATIENCE_MS).then_some(Unanswered { connections, age_ms, has_answered })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const B1: BackendId = BackendId(1);

    /// Looks each second at what `seen` says of the second; returns the seconds in which the backend counted as silent.
    fn silent_at(answers: &mut Answers, seconds: std::ops::Range<u64>, seen: impl Fn(u64) -> Seen) -> Vec<u64> {
        let mut silent = Vec::new();
        for second in seconds {
            answers.look(&[(B1, seen(second))].into(), second * 1000);
            silent.extend(answers.unanswered(second * 1000).map(|_| second));
        }
        silent
    }

    #[test]
    fn a_backend_that_never_answers_is_found_and_its_first_answer_clears_it() {
        let mut answers = Answers::default();
        let black_hole = |second| Seen { opened: second * 2, answered_ms: 0 };
        assert_eq!(silent_at(&mut answers, 0..14, black_hole), [11, 12, 13]);
        let said = answers.unanswered(13_000).next();
        assert_eq!(said, Some((B1, Unanswered { connections: 26, age_ms: 12_000, has_answered: false })));
        assert_eq!(
            silent_at(&mut answers, 14..24, |second| Seen { answered_ms: 14_000, ..black_hole(second) }),
            [0_u64; 0]
        );
        let broken_later = silent_at(&mut answers, 24..26, |second| Seen { answered_ms: 14_000, ..black_hole(second) });
        assert_eq!(broken_later, [25], "its answers stopped");
        assert!(answers.unanswered(25_000).all(|(_, it)| it.has_answered));
    }

    #[test]
    fn it_is_news_once() {
        let mut answers = Answers::default();
        let news = |answers: &mut Answers, second: u64| {
            answers.look(&[(B1, Seen { opened: second, answered_ms: 0 })].into(), second * 1000)
        };
        let told: Vec<u64> = (0..30).filter(|second| !news(&mut answers, *second).is_empty()).collect();
        assert_eq!(told, [11]);
    }

    #[test]
    fn idle_healthy_slow_and_new_backends_are_not_silent() {
        let never = |_| Seen { opened: 7, answered_ms: 0 };
        assert_eq!(silent_at(&mut Answers::default(), 0..100, never), [0_u64; 0], "idle, as it was found");
        let flooded = |second: u64| Seen { opened: second * 100_000, answered_ms: second * 1000 };
        assert_eq!(silent_at(&mut Answers::default(), 0..100, flooded), [0_u64; 0]);
        let few = |second: u64| Seen { opened: second.min(4), answered_ms: 0 };
        assert_eq!(silent_at(&mut Answers::default(), 0..100, few), [0_u64; 0], "lost packets");
        let slow = |second: u64| Seen { opened: second * 9, answered_ms: second / 9 * 9000 };
        assert_eq!(silent_at(&mut Answers::default(), 0..100, slow), [0_u64; 0], "a full queue");
    }

    #[test]
    fn whoever_was_away_begins_anew() {
        let mut answers = Answers::default();
        let black_hole = |second| Seen { opened: second * 2, answered_ms: 0 };
        silent_at(&mut answers, 0..20, black_hole);
        answers.look(&BTreeMap::new(), 20_000);
        assert_eq!(silent_at(&mut answers, 21..30, black_hole), [0_u64; 0]);
        answers.forget();
        assert_eq!(silent_at(&mut answers, 30..40, black_hole), [0_u64; 0]);
    }
}
