//! Which clients of a service are served, by its slots and by the ways to its backends.

use super::problems::Served;
use crate::configuration::{Backend, Service};
use shunt_shmlayout::address::NeighbourId;
use shunt_shmlayout::config_table::MemberRecord;
use shunt_shmlayout::service::Target;

/// Judges a service of the active configuration, which has these backends.
pub fn served(service: &Service, backends: &[Backend]) -> Served {
    let has_route = |member: &&MemberRecord| {
        let mut of_id = backends.iter().filter(|backend| backend.id.0 == member.backend);
        of_id.any(|backend| backend.record.neighbour != NeighbourId::NONE)
    };
    // The weight in force is 0 for those that take no connections.
    let takers: Vec<&MemberRecord> = service.members.iter().filter(|member| member.effective > 0).collect();
    let is_cut_off = !takers.is_empty() && !takers.iter().any(has_route);
    let unserved = service.classes.iter().find(|class| class.slots_count == 0);
    match (service.record.target, service.record.slots_count, unserved) {
        (Target::Host, ..) => Served::All,
        (Target::Backends, 0, _) => Served::Nobody,
        (Target::Backends, _, Some(class)) => Served::Not(class.start.to_string()),
        (Target::Backends, _, None) if is_cut_off => Served::NoRoute,
        (Target::Backends, _, None) => Served::All,
    }
}
