//! A generation's hash table that maps a packet's address, port and protocol to a service or a backend (patent Fig. 6
//! step 206). Control fills it with its generation; switchers and the keeper read it.

use crate::access::{Access, Writer};
use crate::address::{Address, BackendId, PortBe, ServiceId};
use crate::config_table::Generation;
use crate::layout::described;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What an address, port and protocol belong to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Endpoint {
    /// Address, port and protocol of a service with backends.
    Service(ServiceId),
    /// Address, port and protocol of a service of this machine's own programs.
    HostService(ServiceId),
    /// Address, port and protocol of a backend: the source of a reply.
    Backend(BackendId),
    /// An address of Shunt's, independent of the port.
    Address(AddressUse),
    /// The record's kind is unknown to this build.
    Unknown,
}

/// How an address of Shunt's is used, for packets that belong to no service. Ordered: a later use includes the earlier ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AddressUse {
    /// Only services with backends use it: other packets are dropped.
    Services,
    /// A service of this machine's own programs uses it, too: fragments and ICMP errors about that service go to the host.
    Shared,
    /// An address of this machine's own programs.
    Host,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct EndpointRecord {
    address: Address,
    port: PortBe,
    protocol: u8,
    kind: u8,
    id: u16,
    reserved: [u8; 10],
}

described!(EndpointRecord { address, port, protocol, kind, id, reserved });

const SERVICE: u8 = 1;
const BACKEND: u8 = 2;
const SERVICE_ADDRESS: u8 = 3;
const SHARED_ADDRESS: u8 = 4;
const HOST_ADDRESS: u8 = 5;
const HOST_SERVICE: u8 = 6;
const UNKNOWN: u8 = u8::MAX;

impl Endpoint {
    fn bits(self) -> (u8, u16) {
        match self {
            Self::Service(ServiceId(id)) => (SERVICE, id),
            Self::HostService(ServiceId(id)) => (HOST_SERVICE, id),
            Self::Backend(BackendId(id)) => (BACKEND, id),
            Self::Address(AddressUse::Services) => (SERVICE_ADDRESS, 0),
            Self::Address(AddressUse::Shared) => (SHARED_ADDRESS, 0),
            Self::Address(AddressUse::Host) => (HOST_ADDRESS, 0),
            Self::Unknown => (UNKNOWN, 0),
        }
    }
}

impl EndpointRecord {
    #[inline]
    fn endpoint(&self) -> Endpoint {
        match self.kind {
            SERVICE => Endpoint::Service(ServiceId(self.id)),
            HOST_SERVICE => Endpoint::HostService(ServiceId(self.id)),
            BACKEND => Endpoint::Backend(BackendId(self.id)),
            SERVICE_ADDRESS => Endpoint::Address(AddressUse::Services),
            SHARED_ADDRESS => Endpoint::Address(AddressUse::Shared),
            HOST_ADDRESS => Endpoint::Address(AddressUse::Host),
            _ => Endpoint::Unknown,
        }
    }
}

/// Limit of an endpoint's distance from its home index, and of the records that a lookup reads. The table is at most a
/// quarter full ([`crate::regions::ControlShape`]), where a distance of 16 has a probability of about 1e-16 per endpoint. Too
/// low rejects configurations; too high lets a corrupt table cost more time per packet.
const ENDPOINT_PROBES: usize = 16;

/// No room within the probes of an endpoint's home index. The table is then unusable: refill the generation.
#[derive(Debug, PartialEq, Eq)]
pub struct EndpointsFull;

/// The home index of an endpoint, before masking.
#[inline]
fn endpoint_place(address: &Address, port: PortBe, protocol: u8) -> usize {
    address.mix(u64::from(u16::from_ne_bytes(port.0)) << 8 | u64::from(protocol)) as usize
}

impl EndpointRecord {
    #[inline]
    fn is_for(&self, address: &Address, port: PortBe, protocol: u8) -> bool {
        self.address == *address && self.port == port && self.protocol == protocol
    }

    fn is_empty(&self) -> bool {
        self.kind == 0
    }

    fn place(&self) -> usize {
        endpoint_place(&self.address, self.port, self.protocol)
    }

    /// This record, as the replacement of `old`: of two uses of an address, the greater is retained.
    fn merged_with(self, old: &Self) -> Self {
        let (kind, id) = match (old.endpoint(), self.endpoint()) {
            (Endpoint::Address(one), Endpoint::Address(other)) => Endpoint::Address(one.max(other)).bits(),
            _ => (self.kind, self.id),
        };
        Self { kind, id, ..self }
    }
}

impl<A: Access> Generation<A> {
    /// Looks up an address, port and protocol (patent Fig. 6 step 206: "a valid service entry").
    #[inline]
    pub fn find(&self, address: &Address, port: PortBe, protocol: u8) -> Option<Endpoint> {
        let (mask, start) = (self.endpoints.len() - 1, endpoint_place(address, port, protocol));
        for probe in 0..ENDPOINT_PROBES {
            let record = self.endpoints[(start + probe) & mask].load();
            if record.is_empty() {
                return None;
            }
            if record.is_for(address, port, protocol) {
                return Some(record.endpoint());
            }
        }
        None
    }

    /// How this address is used, independent of the port; `None` if it is not Shunt's.
    #[inline]
    pub fn address_use(&self, address: &Address) -> Option<AddressUse> {
        match self.find(address, PortBe::default(), 0)? {
            Endpoint::Address(address_use) => Some(address_use),
            _ => None,
        }
    }

    /// All services, backends and addresses whose kind this build knows.
    pub fn endpoints(&self) -> impl Iterator<Item = (Address, PortBe, u8, Endpoint)> + '_ {
        self.endpoints.iter().filter_map(|record| {
            let record = record.load();
            let endpoint = record.endpoint();
            let is_known = !record.is_empty() && endpoint != Endpoint::Unknown;
            is_known.then_some((record.address, record.port, record.protocol, endpoint))
        })
    }
}

impl Generation<Writer> {
    /// Control only: maps an address, port and protocol to an endpoint. For an address use, port and protocol are 0; the
    /// greater of two uses is retained.
    ///
    /// An endpoint farther from its home index than the occupant displaces it (Robin Hood hashing, Celis 1986), so distances
    /// stay short and nearly equal.
    pub fn add_endpoint(
        &self,
        address: Address,
        port: PortBe,
        protocol: u8,
        to: Endpoint,
    ) -> Result<(), EndpointsFull> {
        let mask = self.endpoints.len() - 1;
        let (kind, id) = to.bits();
        let mut inserting = EndpointRecord { address, port, protocol, kind, id, reserved: [0; 10] };
        let (mut index, mut distance) = (inserting.place() & mask, 0);
        while distance < ENDPOINT_PROBES {
            let occupant = self.endpoints[index].load();
            // An existing record of this endpoint is reached before any record that it would displace.
            if occupant.is_empty() || occupant.is_for(&inserting.address, inserting.port, inserting.protocol) {
                self.endpoints[index].store(&inserting.merged_with(&occupant));
                return Ok(());
            }
            let occupant_distance = index.wrapping_sub(occupant.place()) & mask;
            if occupant_distance < distance {
                self.endpoints[index].store(&inserting);
                (inserting, distance) = (occupant, occupant_distance);
            }
            (index, distance) = ((index + 1) & mask, distance + 1);
        }
        Err(EndpointsFull)
    }
}

const _: () = assert!(size_of::<EndpointRecord>() == 32);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{TCP, UDP};
    use crate::regions::{ControlRegion, ControlShape, Whole};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// An empty generation with this capacity for services and for backends.
    fn generation(services: u32, backends: u32) -> Generation<Writer> {
        let shape = ControlShape::new(services, backends, 1, 1, 1);
        ControlRegion::anonymous(&shape).expect("memory").generations[0]
    }

    fn add(generation: &Generation<Writer>, address: Address, port: u16, protocol: u8, to: Endpoint) {
        let added = generation.add_endpoint(address, PortBe::new(port), protocol, to);
        assert_eq!(added, Ok(()), "{address:?} port {port} protocol {protocol}");
    }

    #[test]
    fn every_port_of_an_address_is_usable() {
        let address = Address::from_v4([198, 18, 0, 100]);
        let generation = generation(65_535, 1);
        for port in 1..=u16::MAX {
            add(&generation, address, port, TCP, Endpoint::Service(ServiceId(port - 1)));
        }
        add(&generation, address, 0, 0, Endpoint::Address(AddressUse::Services));
        for port in 1..=u16::MAX {
            let found = generation.find(&address, PortBe::new(port), TCP);
            assert_eq!(found, Some(Endpoint::Service(ServiceId(port - 1))), "port {port}");
            assert_eq!(generation.find(&address, PortBe::new(port), UDP), None, "port {port} of the other protocol");
        }
        assert_eq!(generation.address_use(&address), Some(AddressUse::Services));
    }

    #[test]
    fn limits_of_any_size_have_room_for_all_ports_of_one_address() {
        for services in [1, 2, 7, 16, 17, 100, 1000, 4096, 30_000] {
            let address = Address::from_v4([198, 18, 1, 11]);
            let generation = generation(services, services);
            for number in 0..services as u16 {
                add(&generation, address, 80 + number, TCP, Endpoint::Service(ServiceId(number)));
                add(&generation, address, 80 + number, UDP, Endpoint::Backend(BackendId(number)));
            }
            assert_eq!(generation.endpoints().count(), 2 * services as usize);
        }
    }

    #[test]
    fn regular_addresses_and_ports_spread_as_well() {
        type Numbering = fn(u16) -> ([u8; 4], u16);
        let numberings: [Numbering; 4] = [
            |n| ([198, 18, 0, 100], n.wrapping_mul(16) | n >> 12),
            |n| ([198, 18, 1, (n % 64) as u8], 8000 + n / 64),
            |n| ([198, (18 + (n >> 8 & 1)) as u8, n as u8, (n >> 9) as u8], 80),
            |n| ([198, 19, (n >> 8) as u8, n as u8], 443),
        ];
        for numbering in numberings {
            let generation = generation(1, 4096);
            for number in 0..4096 {
                let (address, port) = numbering(number);
                add(&generation, Address::from_v4(address), port, TCP, Endpoint::Backend(BackendId(number)));
            }
            assert_eq!(generation.endpoints().count(), 4096);
        }
    }

    #[test]
    fn a_look_up_in_a_damaged_table_ends() {
        let generation = generation(1, 1);
        let other = EndpointRecord {
            address: Address::from_v4([198, 18, 0, 1]),
            port: PortBe::new(1),
            protocol: TCP,
            kind: SERVICE,
            id: 0,
            reserved: [0; 10],
        };
        generation.endpoints.iter().for_each(|record| record.store(&other));
        assert_eq!(generation.find(&Address::from_v4([198, 18, 0, 2]), PortBe::new(1), TCP), None);
        let added = generation.add_endpoint(
            Address::from_v4([198, 18, 0, 2]),
            PortBe::new(1),
            TCP,
            Endpoint::Service(ServiceId(0)),
        );
        assert_eq!(added, Err(EndpointsFull));
    }

    proptest! {
        /// The hash against a map: few addresses and ports, so that many endpoints meet and some are added twice.
        #[test]
        fn the_hash_is_a_map(endpoints in proptest::collection::vec((0u8..8, 0u16..40, 0u8..3, any::<u16>()), 0..200)) {
            let generation = generation(64, 192);
            let mut model = BTreeMap::new();
            for (host, port, protocol, id) in endpoints {
                let key = (Address::from_v4([198, 18, 0, host]), port, protocol);
                add(&generation, key.0, port, protocol, Endpoint::Backend(BackendId(id)));
                model.insert(key, Endpoint::Backend(BackendId(id)));
            }
            for ((address, port, protocol), endpoint) in &model {
                prop_assert_eq!(generation.find(address, PortBe::new(*port), *protocol), Some(*endpoint));
            }
            prop_assert_eq!(generation.endpoints().count(), model.len());
            let absent = Address::from_v4([198, 18, 1, 0]);
            prop_assert_eq!(generation.find(&absent, PortBe::new(1), TCP), None);
        }
    }
}
