//! Restores a predecessor's state after a restart: reads the active generation back into a [`Table`].
//!
//! Slots are not read: the master recomputes them from the same weights once the configuration gives their number.

use shunt_shmlayout::access::Access;
use shunt_shmlayout::address::{BackendId, ServiceId};
use shunt_shmlayout::config_table::{BackendRecord, Generation, MemberRecord, Name};
use shunt_shmlayout::endpoints::Endpoint;
use shunt_shmlayout::service::{BackendView, ServiceView};

use super::identity::Identity;
use super::service::{Member, NEUTRAL_PERMILLE, Service};
use super::table::{Backend, Capacity, Table};
use crate::health::Health;

impl Table {
    /// The last publication: ids, drained flags, health and feedback factors.
    pub fn recover<A: Access>(generation: &Generation<A>) -> Self {
        let mut table = Self::new(Capacity::of(generation));
        for (index, name) in generation.backend_names.iter().enumerate() {
            let id = BackendId(index as u16);
            if let Some(record) = generation.backend(id) {
                table.backends.insert(id, backend(id, &record, name.load(), generation));
            }
        }
        for (index, name) in generation.service_names.iter().enumerate() {
            let id = ServiceId(index as u16);
            if let Some(record) = generation.service(id) {
                let service = service(&table, &record, name.load(), generation);
                table.services.insert(id, service);
            }
        }
        table.recover_deadlines(generation);
        table.index_names();
        table
    }
}

fn backend<A: Access>(id: BackendId, record: &BackendView, name: Name, generation: &Generation<A>) -> Backend {
    let identity = Identity { address: record.address, port: record.port, protocol: record.protocol };
    let endpoint = generation.find(&record.address, record.port, record.protocol.code());
    Backend {
        name: name.to_string(),
        identity,
        drained: record.flags & BackendRecord::DRAINED != 0,
        removed: record.flags & BackendRecord::REMOVED != 0,
        translated: endpoint == Some(Endpoint::Backend(id)),
    }
}

fn service<A: Access>(table: &Table, record: &ServiceView, name: Name, generation: &Generation<A>) -> Service {
    let identity = Identity { address: record.address, port: record.port, protocol: record.protocol };
    let mut service = Service::new(name.to_string(), identity);
    (service.mode, service.timeouts) = (record.mode, record.timeouts);
    service.on_backend_down = record.on_backend_down;
    service.target = record.target;
    let members = generation.members_of(record);
    service.members = members.filter_map(|member| recover_member(table, generation, &member)).collect();
    service
}

/// The effective weight gives the health. If it is 0 for another reason as well, the backend's own flag gives it.
fn recover_member<A: Access>(table: &Table, generation: &Generation<A>, record: &MemberRecord) -> Option<Member> {
    let backend = BackendId(record.backend);
    let drained = table.backends.get(&backend)?.drained;
    let declined = record.factor_permille == 0;
    let up = match drained || declined || record.weight == 0 {
        true => generation.backend(backend)?.flags & BackendRecord::UP != 0,
        false => record.effective != 0,
    };
    Some(Member {
        backend,
        weight: record.weight,
        health: if up { Health::Up } else { Health::Down },
        factor_permille: if declined { NEUTRAL_PERMILLE } else { record.factor_permille },
        declined,
    })
}
