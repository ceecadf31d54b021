//! Switchers of a simulation: the real filter over the shared memory, without an engine around it.

use shunt_packet::tcp::{ACK, SYN};
use shunt_packet::testing::tcp;
use shunt_publish::testing::INTERFACE;
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::address::BackendId;
use shunt_shmlayout::config_table::Generation;
use shunt_shmlayout::connections::Owner;
use shunt_shmlayout::flip::{self, Active};
use shunt_shmlayout::regions::{ControlRegion, InterfaceRecord, SwitcherRecord, SwitcherRegion};
use shunt_shmlayout::sync::Ordering;
use shunt_switcher::filter::testing::pass;
use shunt_switcher::filter::{Filter, Loads, Verdict};

use super::super::super::testing::World;
use super::Simulation;

/// One switcher's process.
pub struct Switcher {
    pub region: SwitcherRegion<Writer>,
    pub is_stopped: bool,
    control: &'static ControlRegion,
    filter: Filter,
    active: Active,
}

/// A connection as it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    pub service: u8,
    pub backend: BackendId,
    /// The backend's number.
    pub address: u8,
}

impl Switcher {
    /// A first process of this number.
    pub fn start(world: &World, number: usize) -> Self {
        let shared = &world.shared;
        let region: SwitcherRegion<Writer> = shared.switchers[number].lend();
        let control: &'static ControlRegion = Box::leak(Box::new(world.control.memory().control.lend()));
        let connections = shared.connections.table().unwrap();
        let owner = Owner::adopt(connections, number as u8, region.counts_in_flight());
        let interfaces: Vec<InterfaceRecord> = shared.keeper.interfaces().map(|(_, record)| record).collect();
        let switchers: Vec<_> = shared.switchers.iter().map(SwitcherRegion::lend).collect();
        let loads = Loads::new(&switchers, control.loads);
        let filter = Filter::new(owner, control.neighbours, interfaces, region, loads);
        Self { region, is_stopped: false, control, filter, active: Active::NONE }
    }

    /// The generation that it uses.
    pub fn in_use(&self) -> Active {
        Active(self.region.head.in_use.load(Ordering::Relaxed))
    }

    /// The next one, which the keeper gives the memory of one that was killed: it clears `in_use` first.
    pub fn restart(world: &World, number: usize) -> Self {
        let record = &world.shared.keeper.switchers[number];
        let living = record.load();
        record.store(&SwitcherRecord { start_time: living.start_time + 1, ..living });
        world.shared.switchers[number].head.in_use.store(0, Ordering::Release);
        record.store(&living);
        Self::start(world, number)
    }

    /// What its engine does first in each turn. True if it reads another generation from now on.
    pub fn follow(&mut self) -> bool {
        if self.is_stopped {
            return false;
        }
        let active = flip::follow(&self.control.head.active, &self.region.head.in_use, self.active);
        let is_new = active != std::mem::replace(&mut self.active, active);
        if is_new {
            self.filter.follow(&self.control.generations[active.buffer()]);
        }
        is_new
    }

    /// The buffer that it may be reading.
    pub fn reads(&self) -> Option<usize> {
        let word = self.region.head.in_use.load(Ordering::Acquire);
        (word != 0).then_some(Active(word).buffer())
    }

    /// The generation that it decides by.
    pub fn generation(&self) -> Option<&'static Generation> {
        (self.active != Active::NONE).then(|| &self.control.generations[self.active.buffer()])
    }
}

impl Simulation {
    /// A client's packet to a service: the first of its connection, or the next one.
    pub fn send(&mut self, number: usize, service: u8, client: u8) {
        let known = self.connections.get(&(usize::from(service), client)).copied();
        let flags = if known.is_some() { ACK } else { SYN };
        let (from, to) = (([198, 18, 3, client], 4000), ([198, 18, 0, service], 80));
        let mut frame = tcp(from, to, flags).build();
        if self.switchers[number].follow() {
            self.read = self.fingerprints();
        }
        let switcher = &mut self.switchers[number];
        if switcher.is_stopped || switcher.generation().is_none() {
            return;
        }
        let verdict = pass(&mut switcher.filter, &mut frame, INTERFACE, self.world.now.monotonic_ms);
        if let Verdict::Forward(..) = verdict {
            self.note(service, client, &frame);
        }
    }

    /// Where a packet went.
    fn note(&mut self, service: u8, client: u8, frame: &[u8]) {
        let address = frame[33];
        let key = (usize::from(service), client);
        let live = self.world.control.memory().connections.live();
        let mut live = live.map(|(connection, ..)| connection);
        let client_address = shunt_shmlayout::address::Address::from_v4([198, 18, 3, client]);
        let id = self.world.generation().find(
            &shunt_shmlayout::address::Address::from_v4([198, 18, 0, service]),
            shunt_shmlayout::address::PortBe::new(80),
            shunt_shmlayout::address::TCP,
        );
        let Some(shunt_shmlayout::endpoints::Endpoint::Service(id)) = id else { return };
        let connection = live.find(|it| it.client == client_address && it.service == id);
        let Some(connection) = connection else { return };
        let made = Made { service, backend: connection.backend, address };
        let before = self.connections.insert(key, made);
        assert!(before.is_none_or(|before| before == made), "{before:?} is {made:?}");
    }
}
