//! Counters, and plain records stored in atomic words.
//!
//! A record is copied as a whole, word by word, but not atomically: a reader needs a protocol that excludes concurrent
//! writes (the flip for the configuration table, the ready word for data that is written once).

use crate::access::{Reader, Writer};
use crate::layout::described;
#[cfg(not(loom))]
use crate::layout::{Described, Field, Layout};
use crate::sync::Ordering;
use crate::word::Word;
use core::marker::PhantomData;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Storage for one `T` of `8 * WORDS` bytes.
#[repr(C)]
#[cfg_attr(not(loom), derive(FromBytes))]
pub struct Record<T, const WORDS: usize, A = Reader> {
    words: [Word<A>; WORDS],
    of: PhantomData<T>,
}

#[cfg(not(loom))]
impl<T: Described, const WORDS: usize, A> Described for Record<T, WORDS, A> {
    const LAYOUT: &'static Layout = &Layout {
        name: "Record",
        size: size_of::<Self>(),
        is_atomic: true,
        fields: &[Field { name: "record", offset: 0, layout: T::LAYOUT }],
    };
}

impl<T: FromBytes, const WORDS: usize, A> Record<T, WORDS, A> {
    /// Copies the record out.
    #[inline]
    pub fn load(&self) -> T {
        const { assert!(size_of::<T>() == 8 * WORDS) };
        let mut copy = [0u64; WORDS];
        for (to, from) in copy.iter_mut().zip(&self.words) {
            *to = from.load(Ordering::Relaxed);
        }
        T::read_from_bytes(copy.as_bytes()).unwrap_or_else(|_| T::new_zeroed())
    }
}

impl<T: IntoBytes + Immutable, const WORDS: usize> Record<T, WORDS, Writer> {
    /// Copies a record in.
    #[inline]
    pub fn store(&self, value: &T) {
        const { assert!(size_of::<T>() == 8 * WORDS) };
        for (word, bytes) in self.words.iter().zip(value.as_bytes().chunks_exact(8)) {
            let mut eight = [0u8; 8];
            eight.copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(eight), Ordering::Relaxed);
        }
    }

    /// Zeroes the record.
    pub fn clear(&self) {
        self.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

/// A counter with a single writer, so that an addition needs no locked instruction.
#[repr(transparent)]
#[cfg_attr(not(loom), derive(zerocopy::FromBytes))]
pub struct Counter<A = Reader>(Word<A>);

described!(atomic Counter<A>);

impl<A> Counter<A> {
    /// The current value.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counter<Writer> {
    /// Adds, wrapping.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Subtracts, wrapping, for counters of which only the sum is meaningful.
    #[inline]
    pub fn subtract(&self, n: u64) {
        self.add(n.wrapping_neg());
    }

    /// Sets the value.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
}

#[cfg(all(test, loom))]
impl<T, const WORDS: usize, A> Record<T, WORDS, A> {
    /// An empty record for loom, whose atomics cannot be created from zeroed memory.
    pub fn for_loom() -> Self {
        Self { words: core::array::from_fn(|_| Word::new(0)), of: PhantomData }
    }
}
