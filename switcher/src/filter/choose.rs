//! Step 214 of patent Fig. 6: which backend a new connection goes to, by its service's algorithm. A
//! choice by present loads is made while deciding and not earlier, so that it sees earlier choices of the same batch.

use std::num::NonZeroU32;

use super::{Choice, Filter, PacketMetadata};
use crate::choice::{Load, Pool, latency, least_connections, lightest};
use shunt_packet::PortBe;
use shunt_shmlayout::address::{BackendId, ServiceId};
use shunt_shmlayout::config_table::{Generation, MemberRecord};
use shunt_shmlayout::connections::{Key, Side};
use shunt_shmlayout::loads::{LoadRecord, Loads as Reports};
use shunt_shmlayout::record::{Counter, Record};
use shunt_shmlayout::regions::{SwitcherRegion, connections_in_flight};
use shunt_shmlayout::service::{Algorithm, ServiceView};

/// Members that a choice examines; of a larger service, a window that the connection's hash selects.
const WINDOW: usize = 64;

/// The backends' loads: all switchers' counts, and the backends' own reports.
pub struct Loads {
    /// By switcher, then backend; our own included.
    counts: Vec<&'static [Counter]>,
    reports: Reports,
}

impl Loads {
    /// Joins all switchers' regions and the reports.
    pub fn new(switchers: &[SwitcherRegion], reports: Reports) -> Self {
        Self { counts: switchers.iter().map(|region| region.in_flight).collect(), reports }
    }

    /// Connections in flight to a backend, over all switchers.
    fn connections(&self, id: BackendId) -> u32 {
        connections_in_flight(self.counts.iter().copied(), id).min(u32::MAX.into()) as u32
    }

    /// A backend's load: the switchers' connections plus the work that comes by other ways; its time per request, unless the
    /// report has expired; and its number of workers.
    fn requests(&self, id: BackendId, now_ms: u64) -> Load {
        let record = self.reports.get(id);
        let is_fresh = now_ms < record.expires_ms;
        let counts = is_fresh && record.flags & LoadRecord::IN_FLIGHT != 0;
        let foreign = if counts { record.foreign } else { 0 };
        Load {
            in_flight: self.connections(id).saturating_add(foreign),
            execution_us: NonZeroU32::new(record.execution_us).filter(|_| is_fresh),
            workers: NonZeroU32::new(record.workers),
        }
    }

    fn load(&self, id: BackendId, measure: Measure, now_ms: u64) -> Load {
        match measure {
            Measure::Connections => Load { in_flight: self.connections(id), ..Load::default() },
            Measure::Requests => self.requests(id, now_ms),
        }
    }
}

/// How a candidate's load is computed.
#[derive(Clone, Copy)]
enum Measure {
    Connections,
    Requests,
}

/// The members of a service that a choice is among, with their loads: copied once, because other processes change both. Reused
/// for each choice, so that none has to clear memory that it doesn't use.
pub(super) struct Candidates {
    members: [MemberRecord; WINDOW],
    loads: [Load; WINDOW],
    count: usize,
}

impl Default for Candidates {
    fn default() -> Self {
        Self { members: [MemberRecord::default(); WINDOW], loads: [Load::default(); WINDOW], count: 0 }
    }
}

impl Candidates {
    /// Copies a service's members, or a window of them that the connection's hash selects.
    fn gather(&mut self, members: &[Record<MemberRecord, 1>], hash: u64) -> &mut Self {
        let first = if members.len() > WINDOW { hash as usize % members.len() } else { 0 };
        let (before, after) = members.split_at(first);
        for (to, from) in self.members.iter_mut().zip(after.iter().chain(before)) {
            *to = from.load();
        }
        self.count = members.len().min(WINDOW);
        self
    }

    /// Reads the load of each candidate.
    fn weigh(&mut self, loads: &Loads, measure: Measure, now_ms: u64) -> &Self {
        for (load, member) in self.loads.iter_mut().zip(&self.members[..self.count]) {
            *load = loads.load(BackendId(member.backend), measure, now_ms);
        }
        self
    }

    fn backend(&self, index: usize) -> BackendId {
        BackendId(self.members[index].backend)
    }
}

impl Pool for Candidates {
    fn count(&self) -> usize {
        self.count
    }

    fn weight(&self, index: usize) -> u32 {
        self.members[index].weight_permille()
    }

    fn load(&self, index: usize) -> Load {
        self.loads[index]
    }
}

/// Candidates whose loads are read on demand: [`lightest`] reads two.
struct Unweighed<'a> {
    candidates: &'a Candidates,
    loads: &'a Loads,
    now_ms: u64,
}

impl Pool for Unweighed<'_> {
    fn count(&self) -> usize {
        self.candidates.count
    }

    fn weight(&self, index: usize) -> u32 {
        self.candidates.weight(index)
    }

    fn load(&self, index: usize) -> Load {
        self.loads.load(self.candidates.backend(index), Measure::Requests, self.now_ms)
    }
}

/// Why no backend was chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoChoice {
    /// The service is missing, or its record holds a code that this build doesn't know.
    BadTable,
    /// No backend takes new connections.
    NoBackend,
}

impl Filter {
    /// Chooses the backend for a new connection, if the algorithm doesn't depend on present loads.
    #[inline]
    pub(super) fn choose_early(&self, tables: &Generation, id: ServiceId, metadata: &PacketMetadata) -> Option<Choice> {
        let service = self.service_for(tables, id, metadata)?;
        let backend = match service.algorithm {
            Algorithm::Lightest | Algorithm::LeastConnections | Algorithm::Latency => None,
            Algorithm::SourceHash => self.source_slot(tables, id, &service, metadata),
            Algorithm::Static | Algorithm::Even => own_slot(tables, &service, metadata),
        };
        Some(self.choice(id, &service, metadata, backend?))
    }

    /// Chooses the backend for a new connection.
    pub(super) fn choose(
        &mut self,
        tables: &Generation,
        id: ServiceId,
        metadata: &PacketMetadata,
        now_ms: u64,
    ) -> Result<Choice, NoChoice> {
        let service = self.service_for(tables, id, metadata).ok_or(NoChoice::BadTable)?;
        let (hash, members) = (metadata.hash, tables.members_in(&service));
        let (candidates, loads) = (&mut self.candidates, &self.loads);
        let index = match service.algorithm {
            Algorithm::Lightest => {
                lightest(&Unweighed { candidates: candidates.gather(members, hash), loads, now_ms }, hash)
            }
            Algorithm::LeastConnections => {
                let pool = candidates.gather(members, hash).weigh(loads, Measure::Connections, now_ms);
                least_connections(pool, hash)
            }
            Algorithm::Latency => {
                let pool = candidates.gather(members, hash).weigh(loads, Measure::Requests, now_ms);
                latency(pool, hash)
            }
            Algorithm::SourceHash | Algorithm::Static | Algorithm::Even => {
                return self.choose_early(tables, id, metadata).ok_or(NoChoice::NoBackend);
            }
        };
        // If none of the candidates takes any, a slot names a backend that does, if there is one.
        let backend = index.map(|index| self.candidates.backend(index));
        let backend = backend.or_else(|| own_slot(tables, &service, metadata)).ok_or(NoChoice::NoBackend)?;
        Ok(self.choice(id, &service, metadata, backend))
    }

    /// The service with the slots and members of the client's class.
    #[inline]
    fn service_for(&self, tables: &Generation, id: ServiceId, metadata: &PacketMetadata) -> Option<ServiceView> {
        let service = tables.service(id)?;
        let is_plain = service.classes_count == 0;
        Some(if is_plain { service } else { tables.service_for(service, &metadata.flow.source) })
    }

    /// The slot of the client's address. The hash is keyed, so that a client can't select its backend, and independent of the
    /// client's port.
    fn source_slot(
        &self,
        tables: &Generation,
        id: ServiceId,
        service: &ServiceView,
        metadata: &PacketMetadata,
    ) -> Option<BackendId> {
        let client = metadata.flow.source;
        let key = Key { side: Side::Client, client, client_port: PortBe::ZERO, id: id.0 };
        tables.slot(service, (self.owner.table().hash(&key) >> 16) as u32)
    }

    fn choice(&self, id: ServiceId, service: &ServiceView, metadata: &PacketMetadata, backend: BackendId) -> Choice {
        let (client, client_port) = (metadata.flow.source, metadata.flow.source_port);
        let backend_hash = self.owner.table().hash(&Key { side: Side::Backend, client, client_port, id: backend.0 });
        Choice { service: id, backend, mode: service.mode, backend_hash }
    }
}

/// The slot of the connection's own hash.
#[inline]
fn own_slot(tables: &Generation, service: &ServiceView, metadata: &PacketMetadata) -> Option<BackendId> {
    tables.slot(service, (metadata.hash >> 16) as u32)
}
