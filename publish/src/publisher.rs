//! When a generation may be filled, and when it becomes the active one.
//!
//! ```text
//!  Idle -- room(): nobody uses the buffer --> fill(): written, and announced to the keeper --> Prepared
//!    ^ \________ written in part only: emptied, and tried again later ________/                    |
//!    '------------- advance(): the keeper owns its addresses, is dead, or takes too long ----------'
//! ```
//!
//! Control alone writes `active` and `prepared`. Nothing here waits: the main loop asks again each turn.

use shunt_shmlayout::access::Writer;
use shunt_shmlayout::config_table::Generation;
use shunt_shmlayout::flip::{self, Active};
use shunt_shmlayout::regions::{ControlRegion, KeeperRegion, SwitcherRegion};
use shunt_shmlayout::sync::Ordering;

/// The least time from one publication to the next, so that what changes together is published together and a flapping
/// backend costs a bounded share of control's CPU.
const GAP_MS: u64 = 10;
/// How long the keeper may take to put new addresses into the XDP maps.
const KEEPER_MS: u64 = 100;
/// The least time from a failure to fill a buffer to the next attempt.
const RETRY_MS: u64 = 1_000;

/// A switcher that uses an older generation than it should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Its number.
    pub switcher: usize,
    /// Its process.
    pub pid: u32,
    /// The epoch it uses.
    pub epoch: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Idle,
    /// A predecessor of this process died between announcing an epoch and making it active. The keeper may have taken
    /// addresses from its half-filled buffer, and must not mistake our buffer of that epoch for the one it knows.
    Retracting {
        until_ms: u64,
    },
    Prepared {
        until_ms: u64,
    },
}

/// Control's side of the flip.
pub struct Publisher {
    region: ControlRegion<Writer>,
    keeper: KeeperRegion,
    switchers: Vec<SwitcherRegion>,
    phase: Phase,
    not_before_ms: u64,
}

impl Publisher {
    /// Goes on where the last control stopped.
    pub fn new(
        region: ControlRegion<Writer>,
        keeper: KeeperRegion,
        switchers: Vec<SwitcherRegion>,
        now_ms: u64,
    ) -> Self {
        let active = region.head.active.load(Ordering::Relaxed); // control's own
        let phase = match region.head.prepared.load(Ordering::Relaxed) > active {
            true => Phase::Retracting { until_ms: now_ms + KEEPER_MS },
            false => Phase::Idle,
        };
        region.head.prepared.store(active, Ordering::Release);
        Self { region, keeper, switchers, phase, not_before_ms: now_ms }
    }

    /// The generation in force.
    pub fn active(&self) -> Active {
        Active(self.region.head.active.load(Ordering::Relaxed)) // control's own
    }

    /// The buffer to fill, if one may be filled now.
    pub fn room(&mut self, now_ms: u64) -> Option<Generation<Writer>> {
        if let Phase::Retracting { until_ms } = self.phase {
            let owned = self.keeper.head.owned.load(Ordering::Acquire);
            if owned > self.active().0 && now_ms < until_ms && self.keeper.keeper_lives() {
                return None;
            }
            self.phase = Phase::Idle;
        }
        if self.phase != Phase::Idle || now_ms < self.not_before_ms {
            return None;
        }
        let words = self.live_switchers().map(|(_, switcher)| &switcher.head.in_use);
        let idle = flip::idle_buffer(&self.region.head.active, words)?;
        Some(self.region.generations[idle])
    }

    /// Has the buffer from `room` written, and announces its epoch to the keeper, who believes nothing that it reads of the
    /// buffer meanwhile. If writing fails, the buffer is emptied and nothing is announced.
    pub fn fill<E>(
        &mut self,
        idle: &Generation<Writer>,
        now_ms: u64,
        write: impl FnOnce(&Generation<Writer>) -> Result<(), E>,
    ) -> Result<(), E> {
        flip::begin_fill(&self.region.head.fills);
        let written = write(idle).inspect_err(|_| idle.clear());
        flip::end_fill(&self.region.head.fills);
        match written {
            Ok(()) => self.prepare(now_ms),
            Err(_) => self.not_before_ms = now_ms + RETRY_MS,
        }
        written
    }

    /// Whether every live switcher uses the active generation, and none is being published.
    pub fn is_settled(&self) -> bool {
        let words = self.live_switchers().map(|(_, switcher)| &switcher.head.in_use);
        self.phase == Phase::Idle && flip::idle_buffer(&self.region.head.active, words).is_some()
    }

    /// Whether the keeper is waited for.
    pub fn is_on_its_way(&self) -> bool {
        self.phase != Phase::Idle
    }

    fn prepare(&mut self, now_ms: u64) {
        self.region.head.prepared.store(self.active().next().0, Ordering::Release); // pairs with the keeper's load
        self.phase = Phase::Prepared { until_ms: now_ms + KEEPER_MS };
    }

    /// Makes what is prepared the active generation as soon as the keeper owns its addresses.
    pub fn advance(&mut self, now_ms: u64) -> Option<Active> {
        let Phase::Prepared { until_ms } = self.phase else { return None };
        let owned = self.keeper.head.owned.load(Ordering::Acquire); // pairs with the keeper's store
        if owned < self.active().next().0 && now_ms < until_ms && self.keeper.keeper_lives() {
            return None;
        }
        self.phase = Phase::Idle;
        self.not_before_ms = now_ms + GAP_MS;
        Some(flip::publish(&self.region.head.active))
    }

    /// The live switchers that use an older generation than this; one that uses none yet begins with the active one.
    pub fn behind(&self, epoch: u64) -> Vec<Holder> {
        let in_use = |switcher: &SwitcherRegion| switcher.head.in_use.load(Ordering::Acquire);
        let holding = self.live_switchers().map(|(number, switcher)| (number, switcher, in_use(switcher)));
        holding
            .filter(|(.., word)| *word != 0 && Active(*word).epoch() < epoch)
            .map(|(switcher, _, word)| Holder {
                switcher,
                pid: self.keeper.switchers[switcher].load().pid,
                epoch: Active(word).epoch(),
            })
            .collect()
    }

    /// Those whose process lives that the keeper gave the memory to: what a switcher writes about itself proves nothing. A
    /// record that is read while the keeper writes it is of a switcher that hasn't got the memory yet, and will begin with
    /// the active generation.
    fn live_switchers(&self) -> impl Iterator<Item = (usize, &SwitcherRegion)> {
        let all = self.switchers.iter().zip(self.keeper.switchers).enumerate();
        let living = all.filter(|(_, (_, record))| record.load().is_alive());
        living.map(|(number, (region, _))| (number, region))
    }
}
