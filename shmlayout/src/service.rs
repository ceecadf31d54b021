//! Decoded service and backend records.
//!
//! A record (`config_table.rs`) holds codes of fixed width; reading it gives a view with enums that this build knows.

use crate::address::{Address, InterfaceId, NeighbourId, PortBe, Protocol};
use crate::coded::coded;
use crate::config_table::{BackendRecord, ServiceRecord, Timeouts};
use crate::mode::Mode;

coded! {
    "Who serves a service." Target:
    /// Its backends.
    Backends = 0, "backends";
    /// This machine's own programs, through the pseudo-interface.
    Host = 1, "host";
}

coded! {
    "How a service's backend is chosen for a new connection. The names are the configuration's." Algorithm:
    /// Hash of the connection selects a cell; the cells are distributed by weight.
    Static = 0, "static";
    /// Hash of the client's address selects a cell.
    SourceHash = 1, "source-hash";
    /// Power of two choices: the less loaded of two.
    Lightest = 2, "lightest";
    /// Fewest connections in flight relative to weight.
    LeastConnections = 3, "least-connections";
    /// Least expected latency.
    Latency = 4, "latency";
    /// Adaptive weights: as [`Algorithm::Static`], and control adjusts the weights of the cells.
    Even = 5, "even";
}

impl Algorithm {
    /// Whether it selects a cell of the service's slots; the others select a member.
    pub const fn uses_slots(self) -> bool {
        match self {
            Self::Static | Self::SourceHash | Self::Even => true,
            Self::Lightest | Self::LeastConnections | Self::Latency => false,
        }
    }
}

coded! {
    "What happens to connections whose backend is down, or drained for longer than the service allows." OnBackendDown:
    /// They are kept. A TCP client whose SYN is unanswered gets another backend nevertheless.
    Keep = 0, "keep";
    /// UDP flows go to another backend with their next packet.
    Move = 1, "move";
    /// TCP connections are reset at both ends.
    Reset = 2, "reset";
}

/// A decoded service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServiceView {
    /// The address that clients use.
    pub address: Address,
    /// The port that clients use.
    pub port: PortBe,
    /// Transport protocol.
    pub protocol: Protocol,
    /// How packets reach the backend and return.
    pub mode: Mode,
    /// First cell of the service in `slots`.
    pub slots_first: u32,
    /// Number of cells; 0 if no backend accepts connections.
    pub slots_count: u32,
    /// First record of the service in `members`.
    pub members_first: u32,
    /// Number of members.
    pub members_count: u32,
    /// Idle timeouts.
    pub timeouts: Timeouts,
    /// First record of the service in `classes`.
    pub classes_first: u32,
    /// Number of its classes; 0 if all clients get the same backends.
    pub classes_count: u32,
    /// How a backend is chosen.
    pub algorithm: Algorithm,
    /// Who serves it.
    pub target: Target,
    /// What happens to stale connections.
    pub on_backend_down: OnBackendDown,
}

impl ServiceView {
    /// Encodes the view.
    pub fn record(&self) -> ServiceRecord {
        ServiceRecord {
            address: self.address,
            port: self.port,
            protocol: self.protocol.code(),
            mode: self.mode.code(),
            slots_first: self.slots_first,
            slots_count: self.slots_count,
            members_first: self.members_first,
            members_count: self.members_count,
            timeouts: self.timeouts,
            classes_first: self.classes_first,
            classes_count: self.classes_count,
            algorithm: self.algorithm.code(),
            target: self.target.code(),
            on_backend_down: self.on_backend_down.code(),
            reserved: 0,
        }
    }
}

impl ServiceRecord {
    /// Decodes the record; `None` if it is empty or has a code that this build does not know.
    #[inline]
    pub fn view(&self) -> Option<ServiceView> {
        Some(ServiceView {
            address: self.address,
            port: self.port,
            protocol: Protocol::of(self.protocol)?,
            mode: Mode::of(self.mode)?,
            slots_first: self.slots_first,
            slots_count: self.slots_count,
            members_first: self.members_first,
            members_count: self.members_count,
            timeouts: self.timeouts,
            classes_first: self.classes_first,
            classes_count: self.classes_count,
            algorithm: Algorithm::of(self.algorithm)?,
            target: Target::of(self.target)?,
            on_backend_down: OnBackendDown::of(self.on_backend_down)?,
        })
    }
}

/// A decoded backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BackendView {
    /// IP address.
    pub address: Address,
    /// Transport port.
    pub port: PortBe,
    /// Transport protocol.
    pub protocol: Protocol,
    /// [`BackendRecord::UP`], [`BackendRecord::DRAINED`], [`BackendRecord::REMOVED`], [`BackendRecord::STALE`].
    pub flags: u8,
    /// The interface that leads to it.
    pub interface: InterfaceId,
    /// Its next hop in the neighbour table.
    pub neighbour: NeighbourId,
}

impl BackendView {
    /// Encodes the view.
    pub fn record(&self) -> BackendRecord {
        BackendRecord {
            address: self.address,
            port: self.port,
            protocol: self.protocol.code(),
            flags: self.flags,
            interface: self.interface.0,
            neighbour: self.neighbour.0,
            ..BackendRecord::default()
        }
    }
}

impl BackendRecord {
    /// Decodes the record; `None` if it is empty or has a code that this build does not know.
    #[inline]
    pub fn view(&self) -> Option<BackendView> {
        Some(BackendView {
            address: self.address,
            port: self.port,
            protocol: Protocol::of(self.protocol)?,
            flags: self.flags,
            interface: InterfaceId(self.interface),
            neighbour: NeighbourId(self.neighbour),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> ServiceView {
        ServiceView {
            address: Address::from_v4([198, 18, 0, 100]),
            port: PortBe::new(80),
            protocol: Protocol::Tcp,
            mode: Mode::Nat,
            slots_first: 1,
            slots_count: 2,
            members_first: 3,
            members_count: 4,
            timeouts: Timeouts { opening_ms: 5, established_ms: 6, closing_ms: 7, closed_ms: 8 },
            classes_first: 9,
            classes_count: 10,
            algorithm: Algorithm::Latency,
            target: Target::Backends,
            on_backend_down: OnBackendDown::Reset,
        }
    }

    #[test]
    fn a_view_survives_its_record() {
        assert_eq!(service().record().view(), Some(service()));
        let backend = BackendView {
            address: Address::from_v4([198, 18, 1, 11]),
            port: PortBe::new(8080),
            protocol: Protocol::Udp,
            flags: BackendRecord::UP,
            interface: InterfaceId(1),
            neighbour: NeighbourId(2),
        };
        assert_eq!(backend.record().view(), Some(backend));
    }

    #[test]
    fn an_empty_record_and_each_unknown_number_have_no_view() {
        assert_eq!((ServiceRecord::default().view(), BackendRecord::default().view()), (None, None));
        let record = service().record();
        for unknown in [
            ServiceRecord { protocol: 1, ..record },
            ServiceRecord { mode: 0, ..record },
            ServiceRecord { mode: 3, ..record },
            ServiceRecord { algorithm: 6, ..record },
            ServiceRecord { target: 2, ..record },
            ServiceRecord { on_backend_down: 3, ..record },
        ] {
            assert_eq!(unknown.view(), None, "{unknown:?}");
        }
    }
}
