//! The flip of the configuration table (patent Fig. 4: "a memory pointer ... defines which one of the two buffers is
//! currently the active buffer").
//!
//! ```text
//!  control                                     switcher, each turn
//!    wait until idle_buffer() is Some            word = active
//!    fill that buffer                            if it differs from in_use:
//!    publish(): active = epoch << 1 | buffer        in_use = word;  load active again, until equal
//! ```
//!
//! Both sides store, then load, with a sequentially consistent fence between, so at least one sees the other's store: if a
//! switcher read the old active word, control sees its `in_use` before it fills that buffer.
//! Control writes `active`; each switcher writes its own `in_use`; 0 means that it uses neither buffer.
//!
//! The keeper reads buffers, too, but control does not wait for a hung keeper. Instead, the keeper detects concurrent writes
//! by control ([`Reading`]):
//!
//! ```text
//!  control                                     keeper
//!    begin_fill(): fills becomes odd             Reading::begin(): fills, prepared
//!    fill the idle buffer                        copy addresses out of Reading::buffers()
//!    end_fill(): fills becomes even              was_undisturbed(): fills is unchanged? else discard the copy
//!    prepared = the next active word
//! ```

use crate::access::Writer;
use crate::sync::{Ordering, fence};
use crate::word::Word;

/// The active word: `epoch << 1 | buffer`. Epoch 0: nothing is published yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Active(pub u64);

impl Active {
    /// Nothing is published yet: neither buffer may be read.
    pub const NONE: Self = Self(0);

    /// Number of the generation, counted from 1.
    #[inline]
    pub const fn epoch(self) -> u64 {
        self.0 >> 1
    }

    /// Index of its buffer, 0 or 1.
    #[inline]
    pub const fn buffer(self) -> usize {
        (self.0 & 1) as usize
    }

    /// The next epoch, in the other buffer.
    #[inline]
    pub const fn next(self) -> Self {
        Self((self.epoch() + 1) << 1 | (self.0 & 1 ^ 1))
    }
}

/// Switcher side: returns the generation to use this turn, after recording it in `in_use`.
#[inline]
pub fn follow<A>(active: &Word<A>, in_use: &Word<Writer>, current: Active) -> Active {
    let mut word = active.load(Ordering::Acquire); // pairs with publish()
    if word == current.0 {
        return current;
    }
    loop {
        in_use.store(word, Ordering::Release); // after all reads of the old buffer: pairs with idle_buffer()
        fence(Ordering::SeqCst); // in_use before the second load of active: pairs with publish()
        let again = active.load(Ordering::Acquire);
        if again == word {
            return Active(word);
        }
        word = again;
    }
}

/// Control side: the buffer that no process reads, or `None` while a live switcher still uses it.
pub fn idle_buffer<'a, A: 'a>(active: &Word<Writer>, in_use: impl Iterator<Item = &'a Word<A>>) -> Option<usize> {
    let now = Active(active.load(Ordering::Relaxed)); // control's own
    let mut words = in_use.map(|word| word.load(Ordering::Acquire)); // pairs with follow()
    words.all(|word| word == 0 || word == now.0).then_some(now.next().buffer())
}

/// Control side: makes the filled buffer active, with one store.
pub fn publish(active: &Word<Writer>) -> Active {
    let next = Active(active.load(Ordering::Relaxed)).next();
    active.store(next.0, Ordering::Release); // after the buffer's words: pairs with follow()
    fence(Ordering::SeqCst); // active before the next idle_buffer(): pairs with follow()
    next
}

/// Control side: marks the idle buffer as being written. Increments the count even if a predecessor died while writing, so
/// no two fills have the same number.
pub fn begin_fill(fills: &Word<Writer>) {
    let odd = (fills.load(Ordering::Relaxed) + 1) | 1; // control's own
    fills.store(odd, Ordering::Release); // after the prepared word: pairs with Reading::begin()
    fence(Ordering::Release); // the odd number before the buffer's words: pairs with was_undisturbed()
}

/// Control side: marks the buffer as complete.
pub fn end_fill(fills: &Word<Writer>) {
    let even = fills.load(Ordering::Relaxed) + 1; // control's own
    fills.store(even, Ordering::Release); // after the buffer's words: pairs with Reading::begin()
}

/// An optimistic read of the buffers, which control may fill concurrently: valid if [`Reading::was_undisturbed`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    fills: u64,
    prepared: Active,
}

impl Reading {
    /// Begins a read.
    pub fn begin<A>(fills: &Word<A>, prepared: &Word<A>) -> Self {
        let fills = fills.load(Ordering::Acquire); // pairs with begin_fill() and end_fill()
        Self { fills, prepared: Active(prepared.load(Ordering::Acquire)) }
    }

    /// The active word that control had prepared.
    pub fn prepared(self) -> Active {
        self.prepared
    }

    /// The complete buffers: both, or only the active one while control fills the other. Control begins a fill only when
    /// the prepared word is active.
    pub fn buffers(self) -> impl Iterator<Item = usize> {
        let (prepared, is_filling) = (self.prepared.buffer(), self.is_filling());
        (0..2).filter(move |buffer| !is_filling || *buffer == prepared)
    }

    /// Whether the buffers hold data that they did not hold at an `earlier` reading.
    pub fn is_news_to(self, earlier: Self) -> bool {
        self.prepared != earlier.prepared || !self.is_filling() && self.fills != earlier.fills
    }

    /// Whether the buffers are unchanged since [`Reading::begin`].
    pub fn was_undisturbed<A>(self, fills: &Word<A>) -> bool {
        fence(Ordering::Acquire); // after all reads of the buffers: pairs with the fence in begin_fill()
        fills.load(Ordering::Relaxed) == self.fills
    }

    fn is_filling(self) -> bool {
        self.fills & 1 == 1
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const NOBODY: [&Word<Writer>; 0] = [];

    fn buffers(reading: Reading) -> Vec<usize> {
        reading.buffers().collect()
    }

    #[test]
    fn a_buffer_that_is_filled_is_not_read() {
        let (fills, prepared) = (Word::<Writer>::new(0), Word::<Writer>::new(Active(0).next().0));
        let before = Reading::begin(&fills, &prepared);
        assert_eq!((buffers(before), before.was_undisturbed(&fills)), (vec![0, 1], true));
        begin_fill(&fills);
        let during = Reading::begin(&fills, &prepared);
        assert_eq!((buffers(during), before.was_undisturbed(&fills)), (vec![1], false));
        assert!(!during.is_news_to(before), "control announces when it is done");
        end_fill(&fills);
        assert!(!during.was_undisturbed(&fills));
        prepared.store(Active(0).next().next().0, Ordering::Release);
        let after = Reading::begin(&fills, &prepared);
        assert_eq!((buffers(after), after.is_news_to(before)), (vec![0, 1], true));
    }

    /// Its successor announces another buffer by the same word.
    #[test]
    fn the_filling_of_a_control_that_was_killed_is_no_other_one_s() {
        let (fills, prepared) = (Word::<Writer>::new(0), Word::<Writer>::new(0));
        begin_fill(&fills);
        let during = Reading::begin(&fills, &prepared);
        begin_fill(&fills);
        assert!(!during.was_undisturbed(&fills));
        end_fill(&fills);
        let first = Reading::begin(&fills, &prepared);
        begin_fill(&fills);
        end_fill(&fills);
        let second = Reading::begin(&fills, &prepared);
        assert!(second.is_news_to(first) && !first.was_undisturbed(&fills));
    }

    #[test]
    fn buffer_alternates_and_epoch_counts() {
        let active = Word::<Writer>::new(0);
        assert_eq!(idle_buffer(&active, NOBODY.into_iter()), Some(1));
        assert_eq!(publish(&active), Active(1 << 1 | 1));
        assert_eq!(idle_buffer(&active, NOBODY.into_iter()), Some(0));
        assert_eq!(publish(&active), Active(2 << 1));
    }

    #[test]
    fn a_reader_of_the_old_buffer_holds_it() {
        let (active, in_use) = (Word::<Writer>::new(0), Word::<Writer>::new(0));
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
            let shared = Arc::new((
                Word::<Writer>::new(0),
                Word::<Writer>::new(0),
                [[(); 2]; 2].map(|b| b.map(|_| Word::<Writer>::new(0))),
            ));
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

    /// Control does not wait for the keeper: an undisturbed reading never mixes two generations, even if a killed control left
    /// the first fill unfinished.
    #[test]
    fn loom_an_undisturbed_reading_is_never_torn() {
        loom::model(|| {
            let buffers = [[(); 2]; 2].map(|buffer| buffer.map(|()| Word::<Writer>::new(0)));
            let shared = Arc::new((Word::<Writer>::new(0), Word::<Writer>::new(0), buffers));
            let keeper = {
                let shared = shared.clone();
                loom::thread::spawn(move || {
                    let (fills, prepared, buffers) = &*shared;
                    let reading = Reading::begin(fills, prepared);
                    let copy = |buffer: usize| buffers[buffer].each_ref().map(|word| word.load(Ordering::Relaxed));
                    let seen: Vec<_> = reading.buffers().map(|buffer| (buffer, copy(buffer))).collect();
                    if !reading.was_undisturbed(fills) {
                        return;
                    }
                    for (buffer, [a, b]) in seen {
                        assert_eq!(a, b);
                        assert!(buffer != reading.prepared().buffer() || a == reading.prepared().epoch());
                    }
                })
            };
            let (fills, prepared, buffers) = &*shared;
            let next = Active::NONE.next();
            begin_fill(fills);
            buffers[next.buffer()][0].store(9, Ordering::Relaxed); // killed here
            begin_fill(fills);
            buffers[next.buffer()].iter().for_each(|word| word.store(next.epoch(), Ordering::Relaxed));
            end_fill(fills);
            prepared.store(next.0, Ordering::Release);
            // Control has waited for long enough: the next one, in the other buffer.
            let next = next.next();
            begin_fill(fills);
            buffers[next.buffer()].iter().for_each(|word| word.store(next.epoch(), Ordering::Relaxed));
            end_fill(fills);
            prepared.store(next.0, Ordering::Release);
            keeper.join().unwrap();
        });
    }
}
