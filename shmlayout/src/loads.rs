//! What the backends last reported about their load (patent: "raw data from the back-end application servers").
//!
//! Control writes a backend's record in place at each report that it accepts; switchers read it when they choose, and
//! `shunt` to show it. It isn't part of a generation: a report is old before a flip would be through. The words of a
//! record don't change together, so what must agree stands in one word.

use crate::access::{Access, Lends, Reader, Writer};
use crate::address::BackendId;
use crate::layout::described;
use crate::map::lend;
use crate::record::Record;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The last report of one backend: a cache line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LoadRecord {
    /// Requests that it works on or has waiting, if [`LoadRecord::IN_FLIGHT`].
    pub in_flight: u32,
    /// Connections in flight to it over all switchers when control took the report; one word with `in_flight`, so that
    /// what came since can be added to it.
    pub connections: u32,
    /// How long a request takes there, in microseconds; 0 if it doesn't say.
    pub execution_us: u32,
    /// Clients that it serves now.
    pub clients: u32,
    /// [`LoadRecord::IN_FLIGHT`]; the others are for display.
    pub flags: u32,
    /// The load that the master compares, smoothed: for backends that say how long requests take the expected wait of one
    /// more, in microseconds; 0 if nothing is known.
    pub score: u32,
    /// When the report came, in milliseconds of CLOCK_MONOTONIC; 0 if none ever did.
    pub reported_ms: u64,
    /// When it says nothing any more, on the same clock: whoever reads later takes the backend for an average one.
    pub expires_ms: u64,
    /// Requests ended each 1000 seconds, if [`LoadRecord::REQUESTS`].
    pub requests_per_s_milli: u64,
    /// Use of its CPU time, thousandths, if [`LoadRecord::CPU`].
    pub cpu_permille: u16,
    /// Use of its memory, thousandths, if [`LoadRecord::MEMORY`].
    pub memory_permille: u16,
    /// Requests that it works on at a time, more have to wait; 0 if unknown. It holds without a report too, and after its
    /// end: silence changes no number of workers.
    pub workers: u32,
    /// Requests in flight there that didn't come by the switchers, smoothed, if [`LoadRecord::IN_FLIGHT`].
    pub foreign: u32,
    /// Room for later fields.
    pub reserved: u32,
}

described!(LoadRecord {
    in_flight,
    connections,
    execution_us,
    clients,
    flags,
    score,
    reported_ms,
    expires_ms,
    requests_per_s_milli,
    cpu_permille,
    memory_permille,
    workers,
    foreign,
    reserved,
});

impl LoadRecord {
    /// `in_flight` and `connections` say something.
    pub const IN_FLIGHT: u32 = 1;
    /// `clients` says something.
    pub const CLIENTS: u32 = 2;
    /// `cpu_permille` says something.
    pub const CPU: u32 = 4;
    /// `memory_permille` says something.
    pub const MEMORY: u32 = 8;
    /// `requests_per_s_milli` says something.
    pub const REQUESTS: u32 = 16;
    /// It wants no new connections.
    pub const DRAIN: u32 = 32;
    /// It can't serve.
    pub const DOWN: u32 = 64;
    /// Its load is ignored: the agent watches a port on which nobody was ever seen listening.
    pub const NEVER_LISTENING: u32 = 128;
    /// Its load is ignored: the agent watches another port than the backend's.
    pub const OTHER_PORT: u32 = 256;
    /// `workers` was learnt from reports; neither the configuration nor the agent says it.
    pub const WORKERS_LEARNT: u32 = 512;
}

/// A view of all backends' records.
#[derive(Clone, Copy)]
pub struct Loads<A: Access = Reader>(pub &'static [Record<LoadRecord, 8, A>]);

impl<A: Access> Loads<A> {
    /// What stands in a backend's record, old or not.
    #[inline]
    pub fn get(&self, id: BackendId) -> LoadRecord {
        self.0.get(usize::from(id.0)).map(Record::load).unwrap_or_default()
    }
}

impl Loads<Writer> {
    /// Control's: writes a report down, or with an empty record forgets it.
    pub fn set(&self, id: BackendId, load: &LoadRecord) {
        if let Some(record) = self.0.get(usize::from(id.0)) {
            record.store(load);
        }
    }
}

impl<A: Access> Loads<A> {
    /// The same records with no more rights.
    pub fn lend<B: Access>(&self) -> Loads<B>
    where
        A: Lends<B>,
    {
        Loads(lend(self.0))
    }
}

const _: () = assert!(size_of::<LoadRecord>() == 64);
