//! Plain records kept in words of atomics.
//!
//! A record is copied out or in whole, word by word. The words don't change together: whoever reads needs a protocol
//! that says when they stand still (the flip for the configuration table, the ready word for what is written once).

use crate::kill::before_store;
use crate::sync::{AtomicU64, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Room for one record of `8 * WORDS` bytes.
#[repr(C)]
#[cfg_attr(not(loom), derive(FromBytes, IntoBytes, zerocopy::KnownLayout))]
pub struct Record<const WORDS: usize> {
    words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> Record<WORDS> {
    /// Copies the record out.
    #[inline]
    pub fn load<T: FromBytes>(&self) -> T {
        const { assert!(size_of::<T>() == 8 * WORDS) };
        let mut copy = [0u64; WORDS];
        for (to, from) in copy.iter_mut().zip(&self.words) {
            *to = from.load(Ordering::Relaxed);
        }
        T::read_from_bytes(copy.as_bytes()).unwrap_or_else(|_| T::new_zeroed())
    }

    /// Copies a record in.
    #[inline]
    pub fn store<T: IntoBytes + Immutable>(&self, value: &T) {
        const { assert!(size_of::<T>() == 8 * WORDS) };
        for (word, bytes) in self.words.iter().zip(value.as_bytes().chunks_exact(8)) {
            let mut eight = [0u8; 8];
            eight.copy_from_slice(bytes);
            before_store();
            word.store(u64::from_ne_bytes(eight), Ordering::Relaxed);
        }
    }
}

/// A counter with one writer: a plain addition, no locked instruction.
#[repr(transparent)]
#[cfg_attr(not(loom), derive(FromBytes, IntoBytes, zerocopy::KnownLayout))]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the region's writer calls this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Subtracts, wrapping: for a counter of differences, whose sum with others' is what counts.
    #[inline]
    pub fn subtract(&self, n: u64) {
        self.add(n.wrapping_neg());
    }

    /// Sets; only the region's writer calls this.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Reads.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, loom))]
impl<const WORDS: usize> Record<WORDS> {
    /// An empty record for the model checker, whose atomics can't be made from zeroed memory.
    pub fn for_loom() -> Self {
        Self { words: core::array::from_fn(|_| AtomicU64::new(0)) }
    }
}
