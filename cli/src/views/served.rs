//! Which clients of a service are served, by its slots and the paths to its backends.

use super::problems::Served;
use crate::configuration::Service;
use shunt_shmlayout::config_table::MemberRecord;
use shunt_shmlayout::service::Target;
use std::collections::BTreeSet;

/// Evaluates a service of the active configuration; `unreachable` backends get no packets.
pub fn served(service: &Service, unreachable: &BTreeSet<u16>) -> Served {
    // The weight in force is 0 for backends that take no connections.
    let takers: Vec<&MemberRecord> = service.members.iter().filter(|member| member.effective > 0).collect();
    let is_cut_off = !takers.is_empty() && takers.iter().all(|member| unreachable.contains(&member.backend));
    let unserved = service.classes.iter().find(|class| class.slots_count == 0);
    match (service.record.target, service.record.slots_count, unserved) {
        (Target::Host, ..) => Served::All,
        (Target::Backends, 0, _) => Served::Nobody,
        (Target::Backends, _, Some(class)) => Served::Not(class.start.to_string()),
        (Target::Backends, _, None) if is_cut_off => Served::Unreached,
        (Target::Backends, _, None) => Served::All,
    }
}
