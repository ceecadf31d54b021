//! Atomic words in shared memory. Every access can load; only a [`Writer`] can store, exchange and add.

use crate::access::{Reader, Writer};
use crate::kill::before_store;
use crate::layout::described;
#[cfg(not(loom))]
use crate::sync::fence;
use crate::sync::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use core::marker::PhantomData;

macro_rules! word {
    ($(#[doc = $doc:literal])* $Word:ident of $number:ident in $Atomic:ident) => {
        $(#[doc = $doc])*
        #[repr(transparent)]
        #[derive(Debug, Default)]
        #[cfg_attr(not(loom), derive(zerocopy::FromBytes))]
        pub struct $Word<A = Reader> {
            value: $Atomic,
            access: PhantomData<A>,
        }

        described!(atomic $Word<A>);

        impl<A> $Word<A> {
            /// Creates a word outside shared memory.
            pub fn new(value: $number) -> Self {
                Self { value: $Atomic::new(value), access: PhantomData }
            }

            /// Loads atomically. Acquires by a fence, so that the memory may be read-only (see `map.rs`).
            #[cfg(not(loom))]
            #[inline]
            pub fn load(&self, ordering: Ordering) -> $number {
                let value = self.value.load(Ordering::Relaxed);
                if ordering != Ordering::Relaxed {
                    fence(ordering);
                }
                value
            }

            /// Loads. Weaker than a load with a fence: a property shown with this holds with that.
            #[cfg(loom)]
            pub fn load(&self, ordering: Ordering) -> $number {
                self.value.load(ordering)
            }
        }

        impl $Word<Writer> {
            /// Stores atomically.
            #[inline]
            pub fn store(&self, value: $number, ordering: Ordering) {
                before_store();
                self.value.store(value, ordering);
            }

            /// Stores `new` if the value is `current`, atomically.
            #[inline]
            pub fn compare_exchange(
                &self,
                current: $number,
                new: $number,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$number, $number> {
                before_store();
                self.value.compare_exchange(current, new, success, failure)
            }

            /// Adds atomically, wrapping.
            #[inline]
            pub fn fetch_add(&self, n: $number, ordering: Ordering) -> $number {
                before_store();
                self.value.fetch_add(n, ordering)
            }

            /// Subtracts atomically, wrapping.
            #[inline]
            pub fn fetch_sub(&self, n: $number, ordering: Ordering) -> $number {
                before_store();
                self.value.fetch_sub(n, ordering)
            }
        }
    };
}

word! {
    /// 8 bits.
    Word8 of u8 in AtomicU8
}
word! {
    /// 16 bits.
    Word16 of u16 in AtomicU16
}
word! {
    /// 32 bits.
    Word32 of u32 in AtomicU32
}
word! {
    /// 64 bits.
    Word of u64 in AtomicU64
}
