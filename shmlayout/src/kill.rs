//! Kill points: tests stop a protocol before each store to shared memory, like a killed process.

/// Called before each store, exchange and addition of a word (`word.rs`). Empty outside tests.
#[cfg(any(not(test), loom))]
#[inline(always)]
pub(crate) fn before_store() {}

#[cfg(all(test, not(loom)))]
pub(crate) use model::{before_store, killed_before};

#[cfg(all(test, not(loom)))]
mod model {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    thread_local! {
        /// Stores left until the kill; `None` without a kill.
        static STORES_LEFT: Cell<Option<u64>> = const { Cell::new(None) };
    }

    pub(crate) fn before_store() {
        match STORES_LEFT.take() {
            Some(0) => resume_unwind(Box::new("killed")),
            left => STORES_LEFT.set(left.map(|stores| stores - 1)),
        }
    }

    /// Runs `life` and kills it before store number `stores`, counted from 0. Returns whether it was killed.
    pub(crate) fn killed_before(stores: u64, life: impl FnOnce()) -> bool {
        STORES_LEFT.set(Some(stores));
        let is_killed = catch_unwind(AssertUnwindSafe(life)).is_err();
        STORES_LEFT.set(None);
        is_killed
    }
}
