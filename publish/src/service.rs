//! One service: its members, the classes of its clients, and the slots of each, filled anew where weights in force
//! changed.

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

/// A factor that changes nothing.
pub const NEUTRAL_PERMILLE: u16 = 1000;

/// A backend's part in one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which backend.
    pub backend: BackendId,
    /// Weight by configuration.
    pub weight: u16,
    /// What this service's check of it says.
    pub health: Health,
    /// By how much feedback multiplies the weight, thousandths.
    pub factor_permille: u16,
    /// It wants no new connections itself.
    pub declined: bool,
}

/// Cells that name members, as often as their weight says.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    cells: Rc<[u16]>,
    /// What they were made from.
    filled_from: Vec<weights::Member>,
}

impl Slots {
    /// The cells; none if no member takes connections.
    pub fn cells(&self) -> &Rc<[u16]> {
        &self.cells
    }

    fn refill(&mut self, wanted: usize, members: Vec<weights::Member>) {
        if members == self.filled_from && (self.cells.is_empty() || self.cells.len() == wanted) {
            return;
        }
        let mut cells = vec![0; wanted];
        self.cells = if weights::distribute(&mut cells, &members) { cells.into() } else { Rc::default() };
        self.filled_from = members;
    }
}

/// Clients that go to some of the members only.
#[derive(Clone, Debug)]
pub struct Class {
    /// Which.
    pub members: Vec<BackendId>,
    /// Their slots.
    pub slots: Slots,
}

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    /// The operator's name for it.
    pub name: String,
    /// Where clients connect.
    pub identity: Identity,
    /// Who serves it.
    pub target: Target,
    /// How packets reach the backends and come back.
    pub mode: Mode,
    /// How new connections are shared out.
    pub algorithm: Algorithm,
    /// Idle times of its connections.
    pub timeouts: Timeouts,
    /// What becomes of stale connections.
    pub on_backend_down: OnBackendDown,
    /// How long connections may go on at a backend that was taken out.
    pub drain_timeout_s: u32,
    /// When they become stale.
    pub deadlines: Deadlines,
    /// Its backends; none once it is removed, as a configured service has at least one or is the host's.
    pub members: Vec<Member>,
    /// All members' slots.
    pub slots: Slots,
    /// By rule.
    pub classes: Vec<Class>,
    /// Sorted disjoint ranges of clients by their first address, each of a class or, without, of all members.
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

    /// Whether it is only kept for its connections.
    pub fn is_removed(&self) -> bool {
        match self.target {
            Target::Backends => self.members.is_empty(),
            Target::Host => false,
        }
    }

    /// Cells of its own table and of its classes'.
    pub(super) fn cells_wanted(&self) -> usize {
        self.slots_wanted * (1 + self.classes.len())
    }

    /// Records that it takes in the table of members.
    pub(super) fn members_wanted(&self) -> usize {
        self.members.len() + self.classes.iter().map(|class| class.members.len()).sum::<usize>()
    }

    pub(super) fn health_of(&self, backend: BackendId) -> Option<Health> {
        self.member(backend).map(|member| member.health)
    }

    /// The member that is this backend.
    pub fn member(&self, backend: BackendId) -> Option<&Member> {
        self.members.iter().find(|member| member.backend == backend)
    }

    pub(super) fn member_mut(&mut self, backend: BackendId) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.backend == backend)
    }

    /// Takes the rules over; `find` knows the backends by name.
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

    /// Only kept for its connections from now on.
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

/// A member as the master sees it.
pub(super) fn weigh(member: &Member, backends: &BTreeMap<BackendId, Backend>) -> Option<weights::Member> {
    let backend = backends.get(&member.backend)?;
    Some(weights::Member {
        id: member.backend.0,
        key: stable_key(backend.identity.socket_address(), backend.identity.protocol.code()),
        configured_weight: member.weight.into(),
        factor_permille: member.factor_permille.into(),
        health: member.health,
        out: backend.drained || member.declined,
    })
}
