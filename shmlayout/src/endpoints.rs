//! The hash of a generation by which a packet's address, port and protocol lead to a service or a backend (patent Fig. 6
//! step 206). Control fills it with its generation; switchers and the keeper read it.

use crate::address::{Address, BackendId, PortBe, ServiceId};
use crate::config_table::Generation;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What an endpoint leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Endpoint {
    /// Address, port and protocol of a service with backends.
    Service(ServiceId),
    /// Address, port and protocol of a service that the box's own programs serve.
    HostService(ServiceId),
    /// Address, port and protocol of a backend: the source of a reply.
    Backend(BackendId),
    /// The address is Shunt's, whatever the port.
    Address(AddressUse),
}

/// Whose an address of Shunt's is, for packets that belong to no service. Each use is more than the one before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AddressUse {
    /// Services with backends have it: nobody's.
    Services,
    /// At least one service of the box's own programs has it: nobody's but for fragments, and errors about that service.
    Shared,
    /// The box's own programs'.
    Host,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct EndpointRecord {
    address: Address,
    port: PortBe,
    protocol: u8,
    kind: u8,
    id: u16,
    reserved: [u8; 10],
}

const SERVICE: u8 = 1;
const BACKEND: u8 = 2;
const SERVICE_ADDRESS: u8 = 3;
const SHARED_ADDRESS: u8 = 4;
const HOST_ADDRESS: u8 = 5;
const HOST_SERVICE: u8 = 6;

impl Endpoint {
    fn bits(self) -> (u8, u16) {
        match self {
            Self::Service(ServiceId(id)) => (SERVICE, id),
            Self::HostService(ServiceId(id)) => (HOST_SERVICE, id),
            Self::Backend(BackendId(id)) => (BACKEND, id),
            Self::Address(AddressUse::Services) => (SERVICE_ADDRESS, 0),
            Self::Address(AddressUse::Shared) => (SHARED_ADDRESS, 0),
            Self::Address(AddressUse::Host) => (HOST_ADDRESS, 0),
        }
    }
}

impl EndpointRecord {
    #[inline]
    fn endpoint(&self) -> Option<Endpoint> {
        match self.kind {
            SERVICE => Some(Endpoint::Service(ServiceId(self.id))),
            HOST_SERVICE => Some(Endpoint::HostService(ServiceId(self.id))),
            BACKEND => Some(Endpoint::Backend(BackendId(self.id))),
            SERVICE_ADDRESS => Some(Endpoint::Address(AddressUse::Services)),
            SHARED_ADDRESS => Some(Endpoint::Address(AddressUse::Shared)),
            HOST_ADDRESS => Some(Endpoint::Address(AddressUse::Host)),
            _ => None,
        }
    }
}

/// How many places an endpoint may stand in.
const ENDPOINT_PROBES: usize = 16;

/// The endpoint hash has no room left near its place.
#[derive(Debug, PartialEq, Eq)]
pub struct EndpointsFull;

#[inline]
fn endpoint_place(address: &Address, port: PortBe, protocol: u8) -> usize {
    let [a, b] = address.words();
    let port = u64::from(u16::from_ne_bytes(port.0)) << 8 | u64::from(protocol);
    let mixed = (a ^ b.rotate_left(23) ^ port.rotate_left(41)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as usize
}

impl Generation {
    /// What an address, port and protocol belong to (patent Fig. 6 step 206: "a valid service entry").
    #[inline]
    pub fn find(&self, address: &Address, port: PortBe, protocol: u8) -> Option<Endpoint> {
        let (mask, start) = (self.endpoints.len() - 1, endpoint_place(address, port, protocol));
        for probe in 0..ENDPOINT_PROBES {
            let record: EndpointRecord = self.endpoints[(start + probe) & mask].load();
            if record.kind == 0 {
                return None;
            }
            if record.address == *address && record.port == port && record.protocol == protocol {
                return record.endpoint();
            }
        }
        None
    }

    /// Whose this address is, whatever the port; `None` if it isn't Shunt's.
    #[inline]
    pub fn address_use(&self, address: &Address) -> Option<AddressUse> {
        match self.find(address, PortBe::default(), 0)? {
            Endpoint::Address(address_use) => Some(address_use),
            _ => None,
        }
    }

    /// Every service, backend and address of Shunt's.
    pub fn endpoints(&self) -> impl Iterator<Item = (Address, PortBe, u8, Endpoint)> + '_ {
        self.endpoints.iter().filter_map(|record| {
            let record: EndpointRecord = record.load();
            Some((record.address, record.port, record.protocol, record.endpoint()?))
        })
    }

    /// Control's: makes an address, port and protocol lead somewhere; for an address as such, port and protocol are 0.
    /// The greater of two uses of an address stays.
    pub fn add_endpoint(
        &self,
        address: Address,
        port: PortBe,
        protocol: u8,
        to: Endpoint,
    ) -> Result<(), EndpointsFull> {
        let (mask, start) = (self.endpoints.len() - 1, endpoint_place(&address, port, protocol));
        for probe in 0..ENDPOINT_PROBES {
            let record = &self.endpoints[(start + probe) & mask];
            let there: EndpointRecord = record.load();
            let same = there.address == address && there.port == port && there.protocol == protocol;
            if there.kind != 0 && !same {
                continue;
            }
            let to = match (there.endpoint(), to) {
                (Some(Endpoint::Address(one)), Endpoint::Address(other)) => Endpoint::Address(one.max(other)),
                _ => to,
            };
            let (kind, id) = to.bits();
            record.store(&EndpointRecord { address, port, protocol, kind, id, reserved: [0; 10] });
            return Ok(());
        }
        Err(EndpointsFull)
    }
}

const _: () = assert!(size_of::<EndpointRecord>() == 32);
