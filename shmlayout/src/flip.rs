//! The flip of the configuration table (patent Fig. 4: "a memory pointer ... defines which one of the two buffers is
//! currently the active buffer").
//!
//! ```text
//!  control                                     switcher, each turn
//!    wait until idle_buffer() is Some            word = active
//!    fill that buffer                            if it isn't what I use:
//!    publish(): active = epoch << 1 | buffer        in_use = word;  look at active again, until the same
//! ```
//!
//! Both sides store first and load after, with a sequentially consistent fence between, so that one of the two always
//! sees the other: a switcher that still read the old active word has its `in_use` seen by control before control fills
//! that buffer.
//! Control writes `active`; each switcher writes its own `in_use`; word 0 says "uses none".

use crate::sync::{AtomicU64, Ordering, fence};

/// The active word: `epoch << 1 | buffer`. Epoch 0 means that nothing was published yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Active(pub u64);

impl Active {
    /// Nothing was published yet: neither buffer may be read.
    pub const NONE: Self = Self(0);

    /// Number of the generation; counts up from 1.
    #[inline]
    pub const fn epoch(self) -> u64 {
        self.0 >> 1
    }

    /// Which of the two buffers holds it.
    #[inline]
    pub const fn buffer(self) -> usize {
        (self.0 & 1) as usize
    }

    /// What follows: the next epoch, in the other buffer.
    #[inline]
    pub const fn next(self) -> Self {
        Self((self.epoch() + 1) << 1 | (self.0 & 1 ^ 1))
    }
}

/// A switcher's side: returns the generation to use this turn, having said so in `in_use`.
#[inline]
pub fn follow(active: &AtomicU64, in_use: &AtomicU64, current: Active) -> Active {
    let mut word = active.load(Ordering::Acquire); // pairs with publish()
    if word == current.0 {
        return current;
    }
    loop {
        in_use.store(word, Ordering::Release); // what I read of the old buffer was before: pairs with idle_buffer()
        fence(Ordering::SeqCst); // my word before the second look: pairs with publish()
        let again = active.load(Ordering::Acquire);
        if again == word {
            return Active(word);
        }
        word = again;
    }
}

/// Control's side: the buffer that nobody reads, or `None` while one of the live switchers still uses it.
pub fn idle_buffer<'a>(active: &AtomicU64, in_use: impl Iterator<Item = &'a AtomicU64>) -> Option<usize> {
    let now = Active(active.load(Ordering::Relaxed)); // control's own
    let mut words = in_use.map(|word| word.load(Ordering::Acquire)); // pairs with follow()
    words.all(|word| word == 0 || word == now.0).then_some(now.next().buffer())
}

/// Control's side: makes the filled buffer the active one, with one store.
pub fn publish(active: &AtomicU64) -> Active {
    let next = Active(active.load(Ordering::Relaxed)).next();
    active.store(next.0, Ordering::Release); // the buffer's words are before: pairs with follow()
    fence(Ordering::SeqCst); // the new word before the next idle_buffer(): pairs with follow()
    next
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn buffer_alternates_and_epoch_counts() {
        let active = AtomicU64::new(0);
        assert_eq!(idle_buffer(&active, [].into_iter()), Some(1));
        assert_eq!(publish(&active), Active(1 << 1 | 1));
        assert_eq!(idle_buffer(&active, [].into_iter()), Some(0));
        assert_eq!(publish(&active), Active(2 << 1));
    }

    #[test]
    fn a_reader_of_the_old_buffer_holds_it() {
        let (active, in_use) = (AtomicU64::new(0), AtomicU64::new(0));
        publish(&active);
        let mut mine = follow(&active, &in_use, Active(0));
        publish(&active);
        assert_eq!(idle_buffer(&active, [&in_use].into_iter()), None);
        mine = follow(&active, &in_use, mine);
        assert_eq!(mine.epoch(), 2);
        assert_eq!(idle_buffer(&active, [&in_use].into_iter()), Some(1));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;

    /// Two generations of two words each: whichever a switcher uses, it never sees half of one and half of another.
    #[test]
    fn loom_flip_is_never_torn() {
        loom::model(|| {
            let shared =
                Arc::new((AtomicU64::new(0), AtomicU64::new(0), [[(); 2]; 2].map(|b| b.map(|_| AtomicU64::new(0)))));
            let switcher = {
                let shared = shared.clone();
                loom::thread::spawn(move || {
                    let mut mine = Active(0);
                    for _ in 0..2 {
                        mine = follow(&shared.0, &shared.1, mine);
                        if mine == Active::NONE {
                            continue;
                        }
                        let words = &shared.2[mine.buffer()];
                        let seen = words.each_ref().map(|w| w.load(Ordering::Relaxed));
                        assert_eq!(seen[0], seen[1]);
                        assert_eq!(seen[0], mine.epoch());
                    }
                })
            };
            for _ in 0..3 {
                let Some(idle) = idle_buffer(&shared.0, [&shared.1].into_iter()) else { break };
                let epoch = Active(shared.0.load(Ordering::Relaxed)).next().epoch();
                shared.2[idle].iter().for_each(|w| w.store(epoch, Ordering::Relaxed));
                publish(&shared.0);
            }
            switcher.join().unwrap();
        });
    }
}
