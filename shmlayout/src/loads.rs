//! What the backends last reported about their load (patent: "raw data from the back-end application servers").
//!
//! Control writes a backend's record in place at each report that it accepts; switchers read it when they choose, and
//! `shunt` to show it. It isn't part of a generation: a report is old before a flip would be through. The words of a
//! record don't change together, so what must agree stands in one word.

use crate::address::BackendId;
use crate::record::Record;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The last report of one backend: a cache line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LoadRecord {
    /// Requests that it works on or has waiting. One word with `execution_us`.
    pub in_flight: u32,
    /// How long a request took lately, from its arrival to its answer, in microseconds; 0 if it doesn't say.
    pub execution_us: u32,
    /// Clients that it serves now.
    pub clients: u32,
    /// Which of the values it reports, and why its weight is what it is: control's to define, for display.
    pub flags: u32,
    /// When the report came, in milliseconds of CLOCK_MONOTONIC; 0 if none ever did.
    pub reported_ms: u64,
    /// When it says nothing any more, on the same clock: whoever reads later takes the backend for an average one.
    pub expires_ms: u64,
    /// Room for later fields.
    pub reserved: [u64; 4],
}

/// A view of all backends' records.
#[derive(Clone, Copy)]
pub struct Loads(pub &'static [Record<8>]);

impl Loads {
    /// What stands in a backend's record, old or not.
    #[inline]
    pub fn get(&self, id: BackendId) -> LoadRecord {
        self.0.get(usize::from(id.0)).map(Record::load).unwrap_or_default()
    }

    /// Control's: writes a report down, or with an empty record forgets it.
    pub fn set(&self, id: BackendId, load: &LoadRecord) {
        if let Some(record) = self.0.get(usize::from(id.0)) {
            record.store(load);
        }
    }

    /// How long a request takes at this backend, in microseconds, if it says so and said so lately.
    #[inline]
    pub fn execution_us(&self, id: BackendId, now_ms: u64) -> Option<u32> {
        let load = self.get(id);
        (load.execution_us != 0 && now_ms < load.expires_ms).then_some(load.execution_us)
    }
}

const _: () = assert!(size_of::<LoadRecord>() == 64);
