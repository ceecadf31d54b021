//! Decides when a generation may be filled and when it becomes active.
//!
//! ```text
//!  Idle -- room(): buffer is unused    --> fill(): written, and announced to the keeper --> Prepared
//!    ^ \________ written in part only: emptied, and tried again later ________/                    |
//!    '------------- advance(): the keeper owns its addresses, is dead, or takes too long ----------'
//! ```
//!
//! Only control writes `active` and `prepared`. Nothing here blocks: the main loop retries each turn.

use shunt_shmlayout::access::Writer;
use shunt_shmlayout::config_table::Generation;
use shunt_shmlayout::flip::{self, Active};
use shunt_shmlayout::regions::{ControlRegion, KeeperRegion, SwitcherRegion};
use shunt_shmlayout::sync::Ordering;

/// Minimum interval between publications: combines simultaneous changes, and bounds the CPU time that a flapping backend
/// costs.
const GAP_MS: u64 = 10;
/// Timeout for the keeper to update the XDP maps with new addresses.
const KEEPER_MS: u64 = 100;
/// Minimum interval after a failure to fill a buffer.
const RETRY_MS: u64 = 1_000;

/// A switcher that still uses an older generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Its number.
    pub switcher: usize,
    /// Its process id.
    pub pid: u32,
    /// The epoch in use.
    pub epoch: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Idle,
    /// A predecessor died between announcing an epoch and activating it. The keeper may have read addresses from its partly
    /// filled buffer, and must not mistake this process's buffer of that epoch for the one it knows.
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
    /// Resumes where the last control stopped.
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

    /// The active generation.
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

    /// Fills the buffer from `room` and announces its epoch to the keeper, which ignores the buffer until then. If filling
    /// fails, empties the buffer and announces nothing.
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

    /// Returns true if every live switcher uses the active generation and no publication is in progress.
    pub fn is_settled(&self) -> bool {
        let words = self.live_switchers().map(|(_, switcher)| &switcher.head.in_use);
        self.phase == Phase::Idle && flip::idle_buffer(&self.region.head.active, words).is_some()
    }

    /// Returns true while the keeper's confirmation is pending.
    pub fn is_on_its_way(&self) -> bool {
        self.phase != Phase::Idle
    }

    fn prepare(&mut self, now_ms: u64) {
        self.region.head.prepared.store(self.active().next().0, Ordering::Release); // pairs with the keeper's load
        self.phase = Phase::Prepared { until_ms: now_ms + KEEPER_MS };
    }

    /// Activates the prepared generation once the keeper owns its addresses.
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

    /// The live switchers that use a generation older than `epoch`; a switcher without a generation will start with the
    /// active one.
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

    /// The switchers whose process is alive and got the memory from the keeper: a switcher's own claims prove nothing. A
    /// record that the keeper is writing belongs to a switcher that has not got the memory yet and will start with the
    /// active generation.
    fn live_switchers(&self) -> impl Iterator<Item = (usize, &SwitcherRegion)> {
        let all = self.switchers.iter().zip(self.keeper.switchers).enumerate();
        let living = all.filter(|(_, (_, record))| record.load().is_alive());
        living.map(|(number, (region, _))| (number, region))
    }
}
