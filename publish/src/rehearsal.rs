//! A publication into private memory: checks whether a configuration can be published by publishing it. `shunt check` uses
//! the configured limits, control the exact shape of the shared memory, before it uses any of the configuration.

use std::io;

use shunt_config::{Config, Limits};
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::config_table::Generation;
use shunt_shmlayout::endpoints::Endpoint;
use shunt_shmlayout::regions::{ControlRegion, ControlShape, Whole};

use super::arp_cache::Interned;
use super::error::{CapacityError, Unpublishable, WriteError};
use super::fib::Fib;
use super::image::Image;
use super::table::{Capacity, NamedIds, Table};

/// Memory of the required size. It is never freed: a process needs one.
pub struct Rehearsal(Generation<Writer>);

impl Rehearsal {
    /// Allocates the shape of a control region. Pages are allocated on first write.
    pub fn new(shape: &ControlShape) -> io::Result<Self> {
        Ok(Self(ControlRegion::scratch(shape)?.generations[0]))
    }

    /// Allocates the shape that the keeper would create.
    pub fn of_limits(limits: &Limits) -> io::Result<Self> {
        let Limits { services, backends, slots, neighbours, routes, .. } = *limits;
        Self::new(&ControlShape::new(services, backends, slots, neighbours, routes))
    }

    /// An empty table of this capacity.
    pub fn empty_table(&self) -> Table {
        Table::new(Capacity::of(&self.0))
    }

    /// Applies a configuration to `before`; returns the table if it can be published.
    pub fn table(&self, before: &Table, config: &Config, named: &NamedIds) -> Result<Table, Unpublishable> {
        let table = before.configured(config, named)?;
        // Next hops are left out: a record marks those that are unknown or have no entry.
        let image = Image::new(&table, &Fib::default(), &Interned::new());
        image.write(&self.0, 0, 0).map_err(|error| blame(&table, error))?;
        Ok(table)
    }
}

/// The field that contains the address.
fn blame(table: &Table, WriteError { at, endpoint }: WriteError) -> Unpublishable {
    let field = match endpoint {
        Endpoint::Service(id) | Endpoint::HostService(id) => service_field(table, |(own, _)| *own == id),
        Endpoint::Backend(id) => backend_field(table, id),
        Endpoint::Unknown => None,
        Endpoint::Address(_) => service_field(table, |(_, service)| service.identity.socket_address().ip() == at.ip()),
    };
    let field = field.unwrap_or_else(|| "host.addresses".to_owned());
    let at = if at.port() == 0 { at.ip().to_string() } else { at.to_string() };
    Unpublishable { field, reason: CapacityError::Endpoints { at } }
}

type Numbered<'t> = (shunt_shmlayout::address::ServiceId, &'t super::service::Service);

fn service_field(table: &Table, is_it: impl Fn(&Numbered<'_>) -> bool) -> Option<String> {
    table.services().find(is_it).map(|(_, service)| format!("service.{}.address", service.name))
}

fn backend_field(table: &Table, id: shunt_shmlayout::address::BackendId) -> Option<String> {
    let (_, service) = table.services().find(|(_, service)| service.member(id).is_some())?;
    Some(format!("service.{}.backend.{}.address", service.name, table.backend(id)?.name))
}

#[cfg(test)]
mod tests {
    use super::super::testing::config;
    use super::*;

    fn shape(endpoints: u64) -> ControlShape {
        ControlShape { endpoints, ..ControlShape::new(8, 16, 2000, 64, 64) }
    }

    fn rehearse(shape: &ControlShape, config: &Config) -> Result<Table, Unpublishable> {
        let rehearsal = Rehearsal::new(shape).unwrap();
        rehearsal.table(&rehearsal.empty_table(), config, &NamedIds::default())
    }

    #[test]
    fn what_finds_no_place_is_named_with_its_field() {
        let all: Vec<(u8, u16)> = (1..=15).map(|number| (number, 1)).collect();
        assert!(rehearse(&shape(16), &config(&[(1, "nat", &all[..14])])).is_ok(), "16 endpoints");
        let refused = rehearse(&shape(16), &config(&[(1, "nat", &all)])).unwrap_err();
        assert!(matches!(refused.reason, CapacityError::Endpoints { .. }), "{refused}");
        assert!(refused.field.starts_with("service.s1"), "{refused}");
        assert!(rehearse(&shape(64), &config(&[(1, "nat", &all)])).is_ok());
    }

    #[test]
    fn every_pair_can_be_replaced_at_once_and_more_only_when_the_first_are_gone() {
        let shape = ControlShape { members: 2, ..shape(64) };
        let rehearsal = Rehearsal::new(&shape).unwrap();
        let pair = |a: u8, b: u8| config(&[(1, "nat", &[(a, 1), (b, 1)])]);
        let (named, mut table) = (NamedIds::default(), rehearsal.empty_table());
        for config in [pair(1, 2), pair(3, 4)] {
            table = rehearsal.table(&table, &config, &named).unwrap();
        }
        let refused = rehearsal.table(&table, &pair(4, 5), &named).unwrap_err();
        assert_eq!(
            (refused.field.as_str(), refused.reason),
            ("service.s1.backend", CapacityError::Stale { wanted: 5, limit: 4 })
        );
    }

    #[test]
    fn each_limit_is_told_at_the_service_that_goes_beyond_it() {
        let two = config(&[(1, "nat", &[(1, 1)]), (2, "nat", &[(2, 1)])]);
        let base = shape(64);
        for (small, field) in [
            (ControlShape { slots: 150, ..base }, "service.s2.slots"),
            (ControlShape { members: 1, ..base }, "service.s2.backend"),
            (ControlShape { services: 1, ..base }, "service.s2"),
            (ControlShape { backends: 1, ..base }, "service.s2.backend.b2"),
        ] {
            assert_eq!(rehearse(&small, &two).unwrap_err().field, field);
        }
    }
}
