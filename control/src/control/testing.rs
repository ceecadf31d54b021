//! Control over memory of the test's own, with a file, a kernel and a time that the test makes up.

use std::fs;
use std::path::{Path, PathBuf};

use shunt_config::{Config, ConfigError};
use shunt_instances::AddressLocks;
use shunt_protocol::admin::{Command, Reply, Selection};
use shunt_publish::candidate::{Candidate, Document, Grounds};
use shunt_publish::rehearsal::Rehearsal;
use shunt_publish::table::{NamedIds, Table};
use shunt_publish::testing::{IFINDEX, INTERFACE, ServiceOf, keeper, kernel, switcher, text_with};
use shunt_routing::event::{LinkAddress, Neighbour, NeighbourKey, NeighbourState};
use shunt_routing::state::State;
use shunt_shmlayout::access::{Access, Writer};
use shunt_shmlayout::address::BackendId;
use shunt_shmlayout::config_table::{Generation, Name};
use shunt_shmlayout::regions::{
    ConnectionsRegion, ConnectionsShape, ControlRegion, ControlShape, InterfaceRecord, InterfaceSide, KeeperRegion,
    SwitcherRecord, SwitcherRegion, Whole,
};

use super::outside::{Circumstances, Configurations, Event, Inputs, Outputs, Ticket};
use super::{Beginning, Control};
use crate::accepted::Accepted;
use crate::clock::Now;
use crate::health::notes::Notes;
use crate::health::{BackendKey, Health, HealthUpdate};
use crate::start::{Choice, Memory, choose};

/// How much the memory of a world has room for, as a configuration says it.
const LIMITS: &str = "count = 2\n[limits]\nservices = 8\nbackends = 16\nslots = 2000\nneighbours = 64\nroutes = 64\n";

/// The Ethernet address of the interface, and of the box.
pub const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// The file on disk, and what it is held against.
pub struct Disk {
    folder: tempfile::TempDir,
    rehearsal: Rehearsal,
    locks: AddressLocks,
    accepted: Accepted,
}

impl Disk {
    fn path(&self) -> PathBuf {
        self.folder.path().join("shunt.toml")
    }
}

impl Configurations for Disk {
    fn read(&mut self, table: &Table, named: &NamedIds, running: &Config) -> Result<Candidate, ConfigError> {
        let document = Document::read(&self.path())?;
        let grounds = Grounds {
            rehearsal: &self.rehearsal,
            table,
            named,
            running: Some(running),
            local: |_| Ok(Default::default()),
            needs_keys: true,
        };
        Candidate::new(document, &grounds, &mut self.locks)
    }
}

/// Control and everything around it.
pub struct World {
    pub kernel: State,
    pub now: Now,
    pub disk: Disk,
    pub shared: Shared,
    pub control: Control,
    pub circumstances: Circumstances,
    last_ticket: u64,
}

impl World {
    /// A first start by this configuration (`shunt_publish::testing::config`), with lines more in its first service. Two switchers
    /// are there, and run; neighbours of backends are known.
    pub fn new(services: &[ServiceOf<'_>], lines: &str) -> Self {
        Self::with_endpoints(services, lines, shape().endpoints)
    }

    /// The same, with room for so many endpoints in the shared memory.
    pub fn with_endpoints(services: &[ServiceOf<'_>], lines: &str, endpoints: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = Disk {
            rehearsal: Rehearsal::new(&shape()).unwrap(),
            locks: AddressLocks::at(&folder.path().join("locks")).unwrap(),
            accepted: Accepted::at(folder.path().join("accepted.toml")),
            folder,
        };
        write(&disk.path(), services, lines);
        let now = Now { monotonic_ms: 1_000, wall_us: 1_700_000_000_000_000 };
        let shared = Shared::new(&ControlShape { endpoints, ..shape() });
        let control = begin(&mut disk, shared.lend(), now);
        let mut kernel = kernel();
        kernel.addresses.insert(LinkAddress { ifindex: IFINDEX, address: [198, 18, 0, 9].into(), prefix_len: 15 });
        (1..=16).for_each(|number| learn(&mut kernel, number));
        let circumstances = Circumstances::default();
        Self { kernel, now, disk, shared, control, circumstances, last_ticket: 0 }
    }

    /// Replaces the file on disk.
    pub fn write(&self, services: &[ServiceOf<'_>], lines: &str) {
        write(&self.disk.path(), services, lines);
    }

    /// Spoils the file on disk.
    pub fn spoil(&self) {
        fs::write(self.disk.path(), "nonsense = 1\n").unwrap();
    }

    /// One turn, 5 ms after the last.
    pub fn turn(&mut self, events: Vec<Event>) -> Outputs {
        self.now.monotonic_ms += 5;
        self.now.wall_us += 5_000;
        self.turn_now(events)
    }

    /// One turn at the same time as the last.
    pub fn turn_now(&mut self, events: Vec<Event>) -> Outputs {
        let (now, circumstances) = (self.now, self.circumstances.clone());
        let inputs = Inputs { now, events, kernel: &self.kernel, circumstances };
        let outputs = self.control.turn(inputs, &mut self.disk);
        if let Some(text) = &outputs.accepted {
            self.disk.accepted.save(text, &self.disk.path(), now.monotonic_ms);
        }
        outputs
    }

    /// Turns without events for so long.
    pub fn pass(&mut self, ms: u64) -> Vec<Outputs> {
        (0..ms / 5).map(|_| self.turn(Vec::new())).collect()
    }

    /// Control is killed, and started again by what is on disk.
    pub fn restart(&mut self) {
        self.now.monotonic_ms += 50;
        self.control = begin(&mut self.disk, self.control.memory().clone(), self.now);
    }

    /// An order, with its ticket.
    pub fn order(&mut self, command: Command) -> (Ticket, Event) {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        (ticket, Event::Order { ticket, command })
    }

    /// The answer to an order, and when it came: after so many turns. Panics if there is none within 6 s.
    pub fn answer(&mut self, command: Command) -> (Reply, usize) {
        let (ticket, order) = self.order(command);
        let mut events = vec![order];
        for turn in 0..1200 {
            let outputs = self.turn(std::mem::take(&mut events));
            if let Some((_, reply)) = outputs.replies.into_iter().find(|(to, _)| *to == ticket) {
                return (reply, turn);
            }
        }
        panic!("no answer");
    }

    /// The generation in force.
    pub fn generation(&self) -> Generation {
        let memory = self.control.memory();
        memory.control.generations[memory.active().buffer()].lend()
    }

    /// The id of backend bN.
    pub fn backend(&self, number: u8) -> BackendId {
        self.control.table().backend_named(&format!("b{number}")).unwrap()
    }

    /// The backends that slots of the generation in force name.
    pub fn in_slots(&self) -> Vec<BackendId> {
        in_slots(&self.generation())
    }
}

/// The backends that a generation's services send new connections to.
pub fn in_slots<A: Access>(generation: &Generation<A>) -> Vec<BackendId> {
    use shunt_shmlayout::address::ServiceId;
    let services = (0..generation.services.len()).filter_map(|id| generation.service(ServiceId(id as u16)));
    let mut named: Vec<BackendId> = services
        .flat_map(|service| (0..u32::MAX).step_by(1 << 22).filter_map(move |hash| generation.slot(&service, hash)))
        .collect();
    named.sort_unstable();
    named.dedup();
    named
}

/// A result of a check.
pub fn checked(service: u8, backend: u8, health: Health) -> Event {
    let key = BackendKey { service: format!("s{service}"), backend: format!("b{backend}") };
    Event::Health(HealthUpdate { key, health, is_change: true, reason: format!("found {health:?}") })
}

/// Backend bN.
pub fn select(number: u8) -> Selection {
    Selection { backends: vec![format!("b{number}")], hosts: Vec::new() }
}

/// The kernel learns the Ethernet address of 198.18.1.N.
pub fn learn(kernel: &mut State, number: u8) {
    let key = NeighbourKey { ifindex: IFINDEX, address: [198, 18, 1, number].into() };
    let mac = Some([2, 0, 0, 0, 1, number]);
    kernel.neighbours.insert(key, Neighbour { key, mac, state: NeighbourState::Reachable });
}

fn write(path: &Path, services: &[ServiceOf<'_>], lines: &str) {
    fs::write(path, text_with(services, lines).replacen("count = 1\n", LIMITS, 1)).unwrap();
}

fn shape() -> ControlShape {
    ControlShape::new(8, 16, 2000, 64, 64)
}

/// The memory of a world, as those have it who write it: control, keeper and switchers.
pub struct Shared {
    control: ControlRegion<Writer>,
    pub keeper: KeeperRegion<Writer>,
    pub connections: ConnectionsRegion<Writer>,
    pub switchers: Vec<SwitcherRegion<Writer, Writer>>,
}

impl Shared {
    fn new(shape: &ControlShape) -> Self {
        let keeper = keeper();
        keeper.interfaces[usize::from(INTERFACE.0)].store(&InterfaceRecord {
            name: Name::new("eth0"),
            ifindex: IFINDEX,
            mtu: 1500,
            mac: MAC,
            side: InterfaceSide::Both.code(),
            reserved: [0; 17],
        });
        let switchers = vec![switcher(), switcher()];
        for (record, switcher) in keeper.switchers.iter().zip(&switchers) {
            let (pid, start_time) = (switcher.head.pid.get() as u32, switcher.head.start_time.get());
            record.store(&SwitcherRecord { pid, start_time, ..SwitcherRecord::default() });
        }
        let connections = ConnectionsRegion::anonymous(&ConnectionsShape::new(1024)).unwrap();
        let control = ControlRegion::anonymous(shape).unwrap();
        Self { control, keeper, connections, switchers }
    }

    /// As control maps it.
    fn lend(&self) -> Memory {
        Memory {
            control: self.control,
            shape: shape(),
            keeper: self.keeper.lend(),
            connections: self.connections.lend().table().unwrap(),
            switchers: self.switchers.iter().map(SwitcherRegion::lend).collect(),
        }
    }
}

/// As `Start::begin`, without what is waited for.
fn begin(disk: &mut Disk, memory: Memory, now: Now) -> Control {
    let path = disk.path();
    let Choice { candidate, refusal } =
        choose(Document::read(&path), &disk.accepted, &memory, &disk.rehearsal, &mut disk.locks).unwrap();
    let refusal = refusal.map(|refusal| refusal.to_string());
    let beginning = Beginning { path: path.clone(), candidate, memory, notes: Notes::default(), refusal };
    let (control, outputs) = Control::new(beginning, now);
    if let Some(text) = &outputs.accepted {
        disk.accepted.save(text, &path, now.monotonic_ms);
    }
    control
}
