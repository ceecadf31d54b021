//! The doorbell: lets the daemon sleep without missing a packet, and saves switchers the system call while it is awake (wake-up
//! suppression).
//!
//! ```text
//!  daemon                                     switcher
//!    arm(): the word becomes odd                publish()
//!      fence                                      fence
//!    has_packet()? then disarm() and continue   must_ring(): odd, and not rung for this value yet?
//!    else wait for the event                      then signal the event
//!    disarm(): the word becomes even
//! ```
//!
//! Both sides store, then load, with a sequentially consistent fence between, so the daemon sees the packet or the switcher
//! sees the armed doorbell. Only the daemon writes the word.

use crate::access::{Reader, Writer};
use crate::layout::described;
use crate::sync::{Ordering, fence};
use crate::word::Word;

/// The doorbell's word: odd while armed, that is while the daemon sleeps.
#[repr(C)]
#[cfg_attr(not(loom), derive(zerocopy::FromBytes))]
pub struct Doorbell<A = Reader>(Word<A>);

described!(Doorbell<A> { 0 });

impl<A> Doorbell<A> {
    /// Number of times it was armed.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed).div_ceil(2)
    }

    /// Whether the daemon sleeps or is about to.
    pub fn is_armed(&self) -> bool {
        self.0.load(Ordering::Relaxed) & 1 == 1
    }
}

impl Doorbell<Writer> {
    /// Daemon side, before it sleeps. It must check for packets again after this call.
    pub fn arm(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
        fence(Ordering::SeqCst); // the word before the daemon's second check: pairs with must_ring()
    }

    /// Daemon side, after it wakes up.
    pub fn disarm(&self) {
        self.0.store((self.0.load(Ordering::Relaxed) | 1).wrapping_add(1), Ordering::Relaxed);
    }
}

/// The switcher's side of [`Doorbell`].
pub struct Ringer<'a, A = Reader> {
    doorbell: &'a Doorbell<A>,
    rung_for: u64,
}

impl<'a, A> Ringer<'a, A> {
    /// Creates a ringer that has not rung yet.
    pub fn new(doorbell: &'a Doorbell<A>) -> Self {
        Self { doorbell, rung_for: 0 }
    }

    /// After [`super::PacketProducer::publish`]: whether the daemon must be signalled. True at most once each time it is armed.
    pub fn must_ring(&mut self) -> bool {
        fence(Ordering::SeqCst); // the published packets before the load of the word: pairs with arm()
        let word = self.doorbell.0.load(Ordering::Relaxed);
        let must = word & 1 == 1 && word != self.rung_for;
        if must {
            self.rung_for = word;
        }
        must
    }
}

#[cfg(all(test, loom))]
impl<A> Doorbell<A> {
    /// A disarmed doorbell for loom, whose atomics cannot be created from zeroed memory.
    pub fn for_loom() -> Self {
        Self(Word::new(0))
    }
}
