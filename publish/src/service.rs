//! One service: its members, client classes, and the slots of each, recomputed when effective weights change.

use std::collections::BTreeMap;
use std::rc::Rc;

use shunt_config::{Algorithm, Rule};
use shunt_shmlayout::address::{Address, BackendId};
use shunt_shmlayout::config_table::Timeouts;
use shunt_shmlayout::mode::Mode;
use shunt_shmlayout::service::{OnBackendDown, Target};

use super::identity::Identity;
use super::stale::Deadlines;
use super::table::Backend;
use crate::capability;
use crate::health::Health;
use crate::maglev::stable_key;
use crate::weights;

/// The factor that leaves a weight unchanged.
pub const NEUTRAL_PERMILLE: u16 = 1000;

/// A backend's membership in one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The backend's id.
    pub backend: BackendId,
    /// The configured weight.
    pub weight: u16,
    /// Result of this service's check.
    pub health: Health,
    /// Feedback factor of the weight, thousandths.
    pub factor_permille: u16,
    /// It declines new connections.
    pub declined: bool,
}

/// Cells that contain members in proportion to their weights.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    cells: Rc<[u16]>,
    /// The members that they were computed from.
    filled_from: Vec<weights::WeightedMember>,
}

impl Slots {
    /// The cells; empty if no member accepts connections.
    pub fn cells(&self) -> &Rc<[u16]> {
        &self.cells
    }

    fn refill(&mut self, wanted: usize, members: Vec<weights::WeightedMember>) {
        if members == self.filled_from && (self.cells.is_empty() || self.cells.len() == wanted) {
            return;
        }
        let mut cells = vec![0; wanted];
        self.cells = if weights::distribute(&mut cells, &members) { cells.into() } else { Rc::default() };
        self.filled_from = members;
    }
}

/// Clients that are restricted to some of the members.
#[derive(Clone, Debug)]
pub struct Class {
    /// The members' ids.
    pub members: Vec<BackendId>,
    /// Their slots.
    pub slots: Slots,
}

/// A service and its derived tables.
#[derive(Clone, Debug)]
pub struct Service {
    /// The configured name.
    pub name: String,
    /// The address that clients connect to.
    pub identity: Identity,
    /// The backends or the host.
    pub target: Target,
    /// The path of packets to the backends and back.
    pub mode: Mode,
    /// The algorithm that distributes new connections.
    pub algorithm: Algorithm,
    /// Idle timeouts of its connections.
    pub timeouts: Timeouts,
    /// The action for stale connections.
    pub on_backend_down: OnBackendDown,
    /// How long connections may continue on a backend that was taken out.
    pub drain_timeout_s: u32,
    /// The deadlines of its connections.
    pub deadlines: Deadlines,
    /// Its backends; empty once it is removed, as a configured service has at least one or is the host's.
    pub members: Vec<Member>,
    /// All members' slots.
    pub slots: Slots,
    /// By rule.
    pub classes: Vec<Class>,
    /// Sorted disjoint client ranges by first address, each of a class, or of all members without one.
    pub ranges: Vec<(Address, Option<usize>)>,
    pub(super) slots_wanted: usize,
}

impl Service {
    pub(super) fn new(name: String, identity: Identity) -> Self {
        Self {
            name,
            identity,
            target: Target::Backends,
            mode: Mode::Nat,
            algorithm: Algorithm::Static,
            timeouts: Timeouts::default(),
            on_backend_down: OnBackendDown::Keep,
            drain_timeout_s: 0,
            deadlines: Deadlines::default(),
            members: Vec::new(),
            slots: Slots::default(),
            classes: Vec::new(),
            ranges: Vec::new(),
            slots_wanted: 0,
        }
    }

    /// Returns true if it is kept only for its connections.
    pub fn is_removed(&self) -> bool {
        match self.target {
            Target::Backends => self.members.is_empty(),
            Target::Host => false,
        }
    }

    /// Number of cells of its own table and of its classes'.
    pub(super) fn cells_wanted(&self) -> usize {
        self.slots_wanted * (1 + self.classes.len())
    }

    /// Number of its records in the member table.
    pub(super) fn members_wanted(&self) -> usize {
        self.members.len() + self.classes.iter().map(|class| class.members.len()).sum::<usize>()
    }

    pub(super) fn health_of(&self, backend: BackendId) -> Option<Health> {
        self.member(backend).map(|member| member.health)
    }

    /// The member with this backend id.
    pub fn member(&self, backend: BackendId) -> Option<&Member> {
        self.members.iter().find(|member| member.backend == backend)
    }

    pub(super) fn member_mut(&mut self, backend: BackendId) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.backend == backend)
    }

    /// Applies the rules; `find` looks backends up by name.
    pub(super) fn classify(&mut self, rules: &[Rule], find: impl Fn(&str) -> Option<BackendId>) {
        let class = |rule: &Rule| Class {
            members: rule.backends.iter().filter_map(|name| find(name)).collect(),
            slots: Slots::default(),
        };
        self.classes = rules.iter().map(class).collect();
        self.ranges = capability::ranges(rules)
            .into_iter()
            .map(|(first, class)| (Address::from_v4(first.octets()), class))
            .collect();
    }

    /// Keeps the service only for its connections from now on.
    pub(super) fn remove(&mut self) {
        self.deadlines.note_departed(&self.members, &[]);
        self.members.clear();
        self.classes.clear();
        self.ranges.clear();
        (self.slots_wanted, self.target) = (0, Target::Backends);
    }

    pub(super) fn refill(&mut self, backends: &BTreeMap<BackendId, Backend>) {
        let wanted = self.slots_wanted;
        let weighed = |member: &Member| weigh(member, backends);
        self.slots.refill(wanted, self.members.iter().filter_map(weighed).collect());
        for class in &mut self.classes {
            let members = self.members.iter().filter(|member| class.members.contains(&member.backend));
            class.slots.refill(wanted, members.filter_map(weighed).collect());
        }
    }
}

/// Converts a member for the master.
pub(super) fn weigh(member: &Member, backends: &BTreeMap<BackendId, Backend>) -> Option<weights::WeightedMember> {
    let backend = backends.get(&member.backend)?;
    Some(weights::WeightedMember {
        id: member.backend.0,
        key: stable_key(backend.identity.socket_address(), backend.identity.protocol.code()),
        configured_weight: member.weight.into(),
        factor_permille: member.factor_permille.into(),
        health: member.health,
        out: backend.drained || member.declined,
    })
}
