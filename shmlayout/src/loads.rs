//! The last load report of each backend (patent: "raw data from the back-end application servers").
//!
//! Control updates a backend's record in place for each accepted report; switchers read it to choose a backend, `shunt` to
//! display it. It is not part of a generation: a report would be outdated before a flip completes. The words of a record do
//! not change together, so values that must be consistent share a word.

use crate::access::{Access, Lends, Reader, Writer};
use crate::address::BackendId;
use crate::layout::described;
use crate::map::lend;
use crate::record::Record;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The last report of one backend, one cache line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LoadRecord {
    /// Requests in service or queued, if [`LoadRecord::IN_FLIGHT`].
    pub in_flight: u32,
    /// Connections in flight to it from all switchers when control accepted the report. In one word with `in_flight`, so
    /// that connections opened since can be added consistently.
    pub connections: u32,
    /// Execution time of a request, in microseconds; 0 if not reported.
    pub execution_us: u32,
    /// Clients currently served.
    pub clients: u32,
    /// [`LoadRecord::IN_FLIGHT`] for switchers; the other flags are for display.
    pub flags: u32,
    /// The smoothed load that the master compares. For backends that report an execution time: the expected wait of one more
    /// request, in microseconds. 0 if unknown.
    pub score: u32,
    /// When the report arrived, in milliseconds of CLOCK_MONOTONIC; 0 if none has.
    pub reported_ms: u64,
    /// When the report expires, on the same clock. After that, readers assume an average load.
    pub expires_ms: u64,
    /// Requests completed per 1000 seconds, if [`LoadRecord::REQUESTS`].
    pub requests_per_s_milli: u64,
    /// CPU utilization, thousandths, if [`LoadRecord::CPU`].
    pub cpu_permille: u16,
    /// Memory utilization, thousandths, if [`LoadRecord::MEMORY`].
    pub memory_permille: u16,
    /// Requests that it serves concurrently; further ones queue. 0 if unknown. Valid without a report and after expiry.
    pub workers: u32,
    /// Requests in flight that did not come from switchers, smoothed, if [`LoadRecord::IN_FLIGHT`].
    pub foreign: u32,
    /// Reserved.
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
    /// `in_flight` and `connections` are valid.
    pub const IN_FLIGHT: u32 = 1;
    /// `clients` is valid.
    pub const CLIENTS: u32 = 2;
    /// `cpu_permille` is valid.
    pub const CPU: u32 = 4;
    /// `memory_permille` is valid.
    pub const MEMORY: u32 = 8;
    /// `requests_per_s_milli` is valid.
    pub const REQUESTS: u32 = 16;
    /// The backend asks for no new connections.
    pub const DRAIN: u32 = 32;
    /// The backend reports that it cannot serve.
    pub const DOWN: u32 = 64;
    /// Its load is ignored: no process was ever seen listening on the port that the agent watches.
    pub const NEVER_LISTENING: u32 = 128;
    /// Its load is ignored: the agent watches another port than the backend's.
    pub const OTHER_PORT: u32 = 256;
    /// `workers` was estimated from reports, not configured or reported.
    pub const WORKERS_LEARNT: u32 = 512;
}

/// A view of all backends' records.
#[derive(Clone, Copy)]
pub struct Loads<A: Access = Reader>(pub &'static [Record<LoadRecord, 8, A>]);

impl<A: Access> Loads<A> {
    /// Reads a backend's record, expired or not.
    #[inline]
    pub fn get(&self, id: BackendId) -> LoadRecord {
        self.0.get(usize::from(id.0)).map(Record::load).unwrap_or_default()
    }
}

impl Loads<Writer> {
    /// Control only: stores a report; an empty record erases it.
    pub fn set(&self, id: BackendId, load: &LoadRecord) {
        if let Some(record) = self.0.get(usize::from(id.0)) {
            record.store(load);
        }
    }
}

impl<A: Access> Loads<A> {
    /// The same records with equal or fewer rights.
    pub fn lend<B: Access>(&self) -> Loads<B>
    where
        A: Lends<B>,
    {
        Loads(lend(self.0))
    }
}

const _: () = assert!(size_of::<LoadRecord>() == 64);
