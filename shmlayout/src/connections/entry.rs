//! An entry of the connection table: one cache line of eight words.
//!
//! | word | bits | written by |
//! |---|---|---|
//! | 0 control | generation 32, claimer 8, phase 8 | the chunk's owner |
//! | 1-2 client address | 128 | the owner, while claimed |
//! | 3 identity | client port 16, service 16, backend 16, protocol 8, mode 8 | the owner, while claimed |
//! | 4 activity | last seen in ms 40, generation 12, state 4, flags 8 | any switcher, by compare and exchange |
//! | 5 last hop | interface 10, generation 6, Ethernet address 48 | any switcher, by compare and exchange |
//! | 6 created | ms | the owner, while claimed |
//! | 7 | reserved for a mode that rewrites the client's address, too | |
//!
//! Activity, last hop and the slots of both indexes repeat the low bits of the generation. Compare and exchange therefore fails
//! for a switcher that found a connection and was interrupted while the owner reused the entry. It could succeed wrongly only
//! after an exact multiple of 4096 reuses; for the last hop, which the next packet corrects, of 64.

use super::activity::{Activity, LastHop, State};
use super::hash::{Key, Side};
use crate::access::{Reader, Writer};
use crate::address::{Address, BackendId, PortBe, Protocol, ServiceId};
use crate::coded::Coded;
use crate::layout::described;
use crate::mode::Mode;
use crate::sync::{Ordering, fence};
use crate::word::Word;

/// A connection table entry.
#[repr(C, align(64))]
#[cfg_attr(not(loom), derive(zerocopy::FromBytes))]
pub struct Entry<A = Reader> {
    control: Word<A>,
    client: [Word<A>; 2],
    identity: Word<A>,
    activity: Word<A>,
    last_hop: Word<A>,
    created: Word<A>,
    _reserved: Word<A>,
}

described!(Entry<A> { control, client, identity, activity, last_hop, created, _reserved });

/// Number of the connection among those that an entry has held, modulo 4096.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryGeneration(u16);

impl EntryGeneration {
    /// Width in bits.
    pub(super) const WIDTH: u32 = 12;
    const BITS: u64 = (1 << Self::WIDTH) - 1;

    /// From the low bits of a word.
    #[inline]
    pub(super) fn from_low_bits(word: u64) -> Self {
        Self((word & Self::BITS) as u16)
    }

    /// As the low bits of a word.
    #[inline]
    pub(super) fn low_bits(self) -> u64 {
        self.0.into()
    }

    #[inline]
    fn of_control(control: u64) -> Self {
        Self::from_low_bits(control >> 32)
    }
}

const FREE: u8 = 0;
const CLAIMED: u8 = 1;
const LIVE: u8 = 2;

/// The state of a rival after an attempt to withdraw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rival {
    /// Its recording is complete: it remains.
    Stands,
    /// Dead, or its entry has been reused: no longer a rival.
    Gone,
}

/// A consistent copy of a connection's identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The client's address.
    pub client: Address,
    /// The client's port.
    pub client_port: PortBe,
    /// The service it belongs to.
    pub service: ServiceId,
    /// The backend that serves it.
    pub backend: BackendId,
    /// Transport protocol.
    pub protocol: Coded<Protocol>,
    /// Its service's mode at creation; a reload does not change it. If this build does not know it, the connection's packets
    /// are dropped, and the connection expires as usual.
    pub mode: Coded<Mode>,
    /// Creation time, in milliseconds of CLOCK_MONOTONIC.
    pub created_ms: u64,
}

impl Snapshot {
    fn identity(&self) -> u64 {
        u64::from(u16::from_ne_bytes(self.client_port.0)) << 48
            | u64::from(self.service.0) << 32
            | u64::from(self.backend.0) << 16
            | u64::from(self.protocol.byte()) << 8
            | u64::from(self.mode.byte())
    }

    /// The connection's key in one of the two indexes.
    #[inline]
    pub fn key(&self, side: Side) -> Key {
        let id = match side {
            Side::Client => self.service.0,
            Side::Backend => self.backend.0,
        };
        Key { side, client: self.client, client_port: self.client_port, id }
    }

    /// Whether at most one of the two can be recorded, because their keys on this side are equal. Two records with the same
    /// client side contend on that side only.
    pub(super) fn contends_with(&self, other: &Self, side: Side) -> bool {
        self.key(side) == other.key(side) && (side == Side::Client || self.key(Side::Client) != other.key(Side::Client))
    }
}

impl<A> Entry<A> {
    /// Copies a live entry's identity and generation; `None` if it is not live or was reused during the copy.
    #[inline]
    pub(super) fn read(&self) -> Option<(Snapshot, EntryGeneration)> {
        let control = self.control.load(Ordering::Acquire); // pairs with publish()
        if control as u8 != LIVE {
            return None;
        }
        let client = [self.client[0].load(Ordering::Relaxed), self.client[1].load(Ordering::Relaxed)];
        let identity = self.identity.load(Ordering::Relaxed);
        let created_ms = self.created.load(Ordering::Relaxed);
        fence(Ordering::Acquire); // the copies before the second load of control: pairs with claim()
        if self.control.load(Ordering::Relaxed) != control {
            return None;
        }
        let connection = Snapshot {
            client: Address::from_words(client),
            client_port: PortBe(((identity >> 48) as u16).to_ne_bytes()),
            service: ServiceId((identity >> 32) as u16),
            backend: BackendId((identity >> 16) as u16),
            protocol: Coded::from_byte((identity >> 8) as u8),
            mode: Coded::from_byte(identity as u8),
            created_ms,
        };
        Some((connection, EntryGeneration::of_control(control)))
    }

    /// The activity of this generation's connection; `None` if the entry has been reused.
    #[inline]
    pub(super) fn activity_of(&self, generation: EntryGeneration) -> Option<Activity> {
        let word = self.activity.load(Ordering::Relaxed);
        Activity::is_of(word, generation).then(|| Activity::from_word(word))
    }

    /// Whether the entry holds this generation's connection and that is not dead.
    #[inline]
    pub(super) fn is_alive(&self, generation: EntryGeneration) -> bool {
        Activity::is_alive(self.activity.load(Ordering::Relaxed), generation)
    }

    /// The last hop of this generation's client; `None` if the entry has been reused.
    #[inline]
    pub(super) fn last_hop_of(&self, generation: EntryGeneration) -> Option<LastHop> {
        let word = self.last_hop.load(Ordering::Relaxed);
        LastHop::is_of(word, generation).then(|| LastHop::from_word(word))
    }

    /// Owner only: the generation that the entry holds or has been claimed for.
    pub(super) fn generation(&self) -> EntryGeneration {
        EntryGeneration::of_control(self.control.load(Ordering::Relaxed))
    }
}

impl Entry<Writer> {
    /// Replaces the activity of this generation's connection by `next` of it. Exactly one switcher gets `true`: the one whose
    /// change ended the connection ([`Activity::ENDED`]). The activity of a dead entry does not change until the entry is
    /// refilled, so the owner reads a final value.
    #[inline]
    pub(super) fn advance(&self, generation: EntryGeneration, next: impl Fn(Activity) -> Activity) -> bool {
        while let Some(before) = self.activity_of(generation) {
            let after = next(before);
            if before.state == State::Dead || after == before {
                return false;
            }
            let (old, new) = (before.word(generation), after.word(generation));
            // Relaxed suffices: no other data depends on it.
            if self.activity.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return after.flags & !before.flags & Activity::ENDED != 0;
            }
        }
        false
    }

    /// Completes the recording of this generation's connection; `false` if it was withdrawn before.
    pub(super) fn confirm(&self, generation: EntryGeneration) -> bool {
        let recorded = |before: Activity| Activity { flags: before.flags | Activity::RECORDED, ..before };
        self.change(generation, recorded).state != State::Dead
    }

    /// Ends this generation's connection unless its recording is complete. Exactly one of this and [`Entry::confirm`] takes
    /// effect.
    pub(super) fn withdraw(&self, generation: EntryGeneration) -> Rival {
        if self.end_if(generation, |now| !now.is_recorded()) { Rival::Gone } else { Rival::Stands }
    }

    /// Ends this generation's connection if `is_over` returns true for its activity, which is checked again after a
    /// concurrent change. Returns whether the connection is dead.
    pub(super) fn end_if(&self, generation: EntryGeneration, is_over: impl Fn(&Activity) -> bool) -> bool {
        let next = |before: Activity| if is_over(&before) { before.dead() } else { before };
        self.change(generation, next).state == State::Dead
    }

    /// Replaces the activity of this generation's connection by `next` of it, with a retry after a concurrent change. A dead
    /// connection does not change. Returns the resulting activity.
    fn change(&self, generation: EntryGeneration, next: impl Fn(Activity) -> Activity) -> Activity {
        while let Some(before) = self.activity_of(generation) {
            let after = next(before);
            if before.state == State::Dead || after == before {
                return before;
            }
            // Relaxed suffices: no other data depends on it.
            let (old, new) = (before.word(generation), after.word(generation));
            if self.activity.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return after;
            }
        }
        Activity::GONE
    }

    /// Records the last hop of this generation's client. Writes only if it changed and `gives_way` returns true for the
    /// previous one.
    #[inline]
    pub(super) fn set_last_hop(&self, generation: EntryGeneration, hop: LastHop, gives_way: impl Fn(LastHop) -> bool) {
        let (old, new) = (self.last_hop.load(Ordering::Relaxed), hop.word(generation));
        if old != new && LastHop::is_of(old, generation) && gives_way(LastHop::from_word(old)) {
            // A concurrent writer saw an equally recent packet.
            let _ = self.last_hop.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Owner only: FREE -> CLAIMED, with the next generation number.
    pub(super) fn claim(&self, owner: u8) {
        let generation = (self.control.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        self.control.store(generation << 32 | u64::from(owner) << 8 | u64::from(CLAIMED), Ordering::Relaxed);
        fence(Ordering::Release); // CLAIMED before the contents: pairs with the second load of control in read()
    }

    /// Owner only: writes the contents of a claimed entry.
    pub(super) fn fill(&self, connection: &Snapshot, activity: Activity, hop: LastHop) {
        for (word, value) in self.client.iter().zip(connection.client.words()) {
            word.store(value, Ordering::Relaxed);
        }
        self.identity.store(connection.identity(), Ordering::Relaxed);
        self.created.store(connection.created_ms, Ordering::Relaxed);
        let generation = self.generation();
        self.activity.store(activity.word(generation), Ordering::Relaxed);
        self.last_hop.store(hop.word(generation), Ordering::Relaxed);
    }

    /// Owner only: whether this generation's connection was freed and the entry has not been claimed since.
    pub(super) fn is_freed(&self, generation: EntryGeneration) -> bool {
        let control = self.control.load(Ordering::Relaxed);
        control as u8 == FREE && EntryGeneration::of_control(control) == generation
    }

    /// Owner only: CLAIMED -> LIVE.
    pub(super) fn publish(&self) {
        let control = self.control.load(Ordering::Relaxed);
        self.control.store(control & !0xff | u64::from(LIVE), Ordering::Release); // pairs with read()
    }

    /// Owner only: any phase -> FREE. Its index slots must be cleared before.
    pub(super) fn free(&self) {
        let control = self.control.load(Ordering::Relaxed);
        self.control.store(control & !0xff | u64::from(FREE), Ordering::Release);
    }
}

#[cfg(all(test, loom))]
impl<A> Entry<A> {
    pub(super) fn for_loom() -> Self {
        let word = || Word::new(0);
        Self {
            control: word(),
            client: [word(), word()],
            identity: word(),
            activity: word(),
            last_hop: word(),
            created: word(),
            _reserved: word(),
        }
    }
}
