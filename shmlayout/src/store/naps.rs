//! How the daemon sleeps without missing a packet, and without costing a system call while it is awake.
//!
//! ```text
//!  daemon                                     switcher
//!    fall_asleep(): naps becomes odd            publish()
//!      fence                                      fence
//!    has_packet()? then wake_up() and go on     must_wake(): naps odd, and not yet woken from this nap?
//!    else wait for the event                      then signal the event
//!    wake_up(): naps becomes even
//! ```
//!
//! Both store first and load after, with a sequentially consistent fence between, so that the daemon sees the packet or
//! the switcher sees the nap. The daemon alone writes the word.

use crate::access::{Reader, Writer};
use crate::layout::described;
use crate::sync::{Ordering, fence};
use crate::word::Word;

/// Odd while the daemon sleeps.
#[repr(C)]
#[cfg_attr(not(loom), derive(zerocopy::FromBytes))]
pub struct Naps<A = Reader>(Word<A>);

described!(Naps<A> { 0 });

impl<A> Naps<A> {
    /// How often it has slept.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed).div_ceil(2)
    }

    /// Whether it sleeps now.
    pub fn is_asleep(&self) -> bool {
        self.0.load(Ordering::Relaxed) & 1 == 1
    }
}

impl Naps<Writer> {
    /// The daemon's: says that it is about to sleep. Look for packets again after this, before sleeping.
    pub fn fall_asleep(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
        fence(Ordering::SeqCst); // my word before my second look: pairs with must_wake()
    }

    /// The daemon's: says that it is awake.
    pub fn wake_up(&self) {
        self.0.store((self.0.load(Ordering::Relaxed) | 1).wrapping_add(1), Ordering::Relaxed);
    }
}

/// The switcher's side of [`Naps`].
pub struct Waker<'a, A = Reader> {
    naps: &'a Naps<A>,
    woken_from: u64,
}

impl<'a, A> Waker<'a, A> {
    /// Nobody was woken yet.
    pub fn new(naps: &'a Naps<A>) -> Self {
        Self { naps, woken_from: 0 }
    }

    /// After [`Producer::publish`]: whether the daemon has to be signalled. True once a nap at the most.
    pub fn must_wake(&mut self) -> bool {
        fence(Ordering::SeqCst); // what I published before my look at the word: pairs with fall_asleep()
        let nap = self.naps.0.load(Ordering::Relaxed);
        let must = nap & 1 == 1 && nap != self.woken_from;
        if must {
            self.woken_from = nap;
        }
        must
    }
}

#[cfg(all(test, loom))]
impl<A> Naps<A> {
    /// Awake; the model checker's atomics can't be made from zeroed memory.
    pub fn for_loom() -> Self {
        Self(Word::new(0))
    }
}
