//! The crash model: the real rings, queue and pool over plain memory, a model of the kernel at the other end, and the
//! switcher killed before every single store to shared memory. After each kill every frame has exactly one owner.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use memmap2::MmapRaw;
use proptest::prelude::*;

use super::queue::{Queue, Rings};
use super::ring::{AddressSlot, Consumer, Descriptor, PacketSlot, Producer, Ring};
use crate::port::pool::tests::{ledger, memory};
use crate::port::{Batch, Ledger, Pool};
use shunt_shmlayout::frames::{CHUNK, FrameOwner};

const FRAMES: usize = 192;
const SLOTS: u32 = 64;
const PORTS: usize = 2;

thread_local! {
    /// Stores left until the kill; `None`: nobody is killed.
    static STORES_LEFT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Called before each store to shared memory.
pub(in crate::port) fn before_store() {
    STORES_LEFT.with(|left| match left.get() {
        Some(0) => {
            left.set(None);
            resume_unwind(Box::new("killed"));
        }
        Some(stores) => left.set(Some(stores - 1)),
        None => {}
    });
}

/// Runs `life` and kills it before store number `stores`; whether it was killed.
pub(super) fn kill_at(stores: u64, life: impl FnOnce()) -> bool {
    STORES_LEFT.set(Some(stores));
    let killed = catch_unwind(AssertUnwindSafe(life)).is_err();
    STORES_LEFT.set(None);
    killed
}

/// The kernel's side of one port.
struct Kernel {
    fill: Consumer<AddressSlot>,
    completion: Producer<AddressSlot>,
    receive: Producer<PacketSlot>,
    transmit: Consumer<PacketSlot>,
    /// Taken from the fill ring, no packet yet.
    waiting: Vec<u64>,
    /// Taken from the transmit ring, on the wire.
    sending: Vec<u64>,
}

impl Kernel {
    fn new(rings: &Rings) -> Kernel {
        Kernel {
            fill: Consumer::resume(rings.fill.again()),
            completion: Producer::resume(rings.completion.again()),
            receive: Producer::resume(rings.receive.again()),
            transmit: Consumer::resume(rings.transmit.again()),
            waiting: Vec::new(),
            sending: Vec::new(),
        }
    }

    /// Receives a few packets; one frame more is taken than used, as a driver that looks ahead does.
    fn receive(&mut self, received: u32) {
        for _ in 0..self.fill.available(received + 1) {
            self.waiting.push(self.fill.pop().address);
        }
        self.fill.release();
        for _ in 0..received.min(self.receive.free(SLOTS)).min(self.waiting.len() as u32) {
            let address = self.waiting.remove(0) + 256;
            self.receive.write(Descriptor { address, length: 60 });
        }
        self.receive.publish();
    }

    /// Sends a few packets, looking ahead in the same way.
    fn send(&mut self, sent: u32) {
        for _ in 0..self.transmit.available(sent + 1) {
            self.sending.push(self.transmit.pop().address);
        }
        self.transmit.release();
        for _ in 0..sent.min(self.completion.free(SLOTS)).min(self.sending.len() as u32) {
            let address = self.sending.remove(0);
            self.completion.write(Descriptor { address, length: 0 });
        }
        self.completion.publish();
    }
}

/// What lives on when the switcher is killed.
struct World {
    rings: [Rings; PORTS],
    kernel: [Kernel; PORTS],
    ledger: Ledger,
}

/// One process's life.
struct Switcher {
    queues: [Queue; PORTS],
    pool: Pool,
}

impl World {
    /// Rings whose indexes have counted up to `start`.
    fn starting_at(start: u32) -> World {
        let rings: [Rings; PORTS] = std::array::from_fn(|_| Rings {
            fill: Ring::in_memory(SLOTS, start, AddressSlot::empty),
            completion: Ring::in_memory(SLOTS, start, AddressSlot::empty),
            receive: Ring::in_memory(SLOTS, start, PacketSlot::empty),
            transmit: Ring::in_memory(SLOTS, start, PacketSlot::empty),
        });
        let kernel = std::array::from_fn(|port| Kernel::new(&rings[port]));
        World { rings, kernel, ledger: ledger(FRAMES, PORTS) }
    }

    fn queues(&self) -> [Queue; PORTS] {
        std::array::from_fn(|port| {
            let Rings { fill, completion, receive, transmit } = &self.rings[port];
            let rings = Rings {
                fill: fill.again(),
                completion: completion.again(),
                receive: receive.again(),
                transmit: transmit.again(),
            };
            Queue::resume(port as u8, rings)
        })
    }

    fn start(&self, memory: MmapRaw) -> Switcher {
        let queues = self.queues();
        let standing: Vec<_> = queues.iter().map(|queue| queue.standing(&self.ledger)).collect();
        let pool = Pool::recover(memory, self.ledger, &standing).expect("sizes agree");
        Switcher { queues, pool }
    }

    /// The kernel receives and sends this many packets at every port.
    fn work(&mut self, received: u32, sent: u32) {
        for kernel in &mut self.kernel {
            kernel.receive(received);
            kernel.send(sent);
        }
    }

    /// Every frame stands in exactly one place, and the ledger says so.
    fn check(&self, switcher: &mut Switcher) {
        let mut places: BTreeMap<u64, Vec<FrameOwner>> = BTreeMap::new();
        let mut note = |address: u64, owner| places.entry(address / CHUNK).or_default().push(owner);
        for (port, (rings, kernel)) in self.rings.iter().zip(&self.kernel).enumerate() {
            let receiving = [rings.fill.standing(), rings.receive.standing(), kernel.waiting.clone()].concat();
            let sending = [rings.transmit.standing(), rings.completion.standing(), kernel.sending.clone()].concat();
            receiving.into_iter().for_each(|address| note(address, FrameOwner::Receiving(port as u8)));
            sending.into_iter().for_each(|address| note(address, FrameOwner::Transmitting(port as u8)));
        }
        let free: Vec<_> = std::iter::from_fn(|| switcher.pool.take()).collect();
        for frame in free {
            note(frame.address, FrameOwner::Held);
            switcher.pool.give(frame);
        }
        for number in 0..FRAMES as u64 {
            let owners = places.remove(&number).unwrap_or_default();
            assert_eq!(owners.len(), 1, "frame {number} stands in {owners:?}");
            assert_eq!(self.ledger.owner(number * CHUNK), Some(owners[0]), "frame {number}");
        }
        assert!(places.is_empty(), "unknown frames {places:?}");
    }
}

impl Switcher {
    /// One turn of the engine: what comes in at one port goes out at the other; what doesn't fit is dropped.
    fn turn(&mut self) {
        for port in 0..PORTS {
            let mut batch = Batch::default();
            self.queues[port].receive(&mut self.pool, &mut batch);
            for frame in batch.drain() {
                if let Err(frame) = self.queues[1 - port].send(&self.pool, frame) {
                    self.pool.give(frame);
                }
            }
        }
        for queue in &mut self.queues {
            queue.publish(&self.pool);
            queue.reclaim(&mut self.pool);
            queue.refill(&mut self.pool);
        }
    }
}

/// What happens between a switcher's start and its death.
#[derive(Debug, Clone)]
enum Operation {
    /// The kernel receives packets at a port.
    Receive { port: usize, packets: u32 },
    /// The kernel sends what a port's transmit ring holds.
    Send { port: usize, packets: u32 },
    /// The switcher's turn.
    Turn,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (0..PORTS, 0u32..70).prop_map(|(port, packets)| Operation::Receive { port, packets }),
        (0..PORTS, 0u32..70).prop_map(|(port, packets)| Operation::Send { port, packets }),
        Just(Operation::Turn),
    ]
}

/// Lives through `operations`, with rings that start at `start` and a kill before store `first`, and, if `second` is given,
/// another one in the successor. Returns whether the first kill happened.
fn live(start: u32, operations: &[Operation], first: u64, second: Option<u64>) -> bool {
    let mut world = World::starting_at(start);
    let killed = kill_at(first, || {
        let mut switcher = world.start(memory(FRAMES));
        switcher.turn();
        for operation in operations {
            // The kernel isn't killed: its stores don't count.
            let left = STORES_LEFT.take();
            match *operation {
                Operation::Receive { port, packets } => world.kernel[port].receive(packets),
                Operation::Send { port, packets } => world.kernel[port].send(packets),
                Operation::Turn => {}
            }
            STORES_LEFT.set(left);
            if let Operation::Turn = operation {
                switcher.turn();
            }
        }
    });
    world.work(3, 1);
    if let Some(stores) = second {
        kill_at(stores, || world.start(memory(FRAMES)).turn());
    }
    let mut successor = world.start(memory(FRAMES));
    world.check(&mut successor);
    for _ in 0..3 {
        world.work(5, 64);
        successor.turn();
    }
    // Nothing is in hand between turns, so the check holds for a living switcher too.
    world.check(&mut successor);
    killed
}

/// Where the rings' indexes start: at 0, and so that they wrap on the way.
const STARTS: [u32; 2] = [0, u32::MAX - 20];

fn typical() -> Vec<Operation> {
    let turn = |[from, to]: [[u32; 2]; PORTS]| {
        let traffic = |port: usize, [received, sent]: [u32; 2]| {
            [Operation::Receive { port, packets: received }, Operation::Send { port, packets: sent }]
        };
        traffic(0, from).into_iter().chain(traffic(1, to)).chain([Operation::Turn])
    };
    let turns = [[[4, 0], [2, 0]], [[40, 9], [3, 1]], [[0, 64], [33, 64]], [[7, 2], [7, 2]]];
    turns.into_iter().flat_map(turn).collect()
}

#[test]
fn killed_before_any_store_every_frame_has_one_owner() {
    for start in STARTS {
        let kills = (0..).take_while(|stores| live(start, &typical(), *stores, None)).count();
        assert!(kills > 500, "the protocol has more stores than {kills}");
    }
}

#[test]
fn successor_killed_too() {
    for first in (0..900).step_by(7) {
        for second in (0..400).step_by(5) {
            live(STARTS[second as usize % 2], &typical(), first, Some(second));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn killed_anywhere_in_any_traffic(
        start in prop_oneof![Just(0), u32::MAX - 200..=u32::MAX],
        operations in prop::collection::vec(operation(), 1..40),
        first in 0u64..3000,
        second in prop::option::of(0u64..600),
    ) {
        live(start, &operations, first, second);
    }
}
