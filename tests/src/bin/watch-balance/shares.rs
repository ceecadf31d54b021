//! One look at the shared memory: what each back-end of the first service gets, and what it reported.

use anyhow::{Context, Result, bail};
use shunt_process::{Instance, region_name};
use shunt_shmlayout::address::{BackendId, ServiceId};
use shunt_shmlayout::config_table::{Generation, Name};
use shunt_shmlayout::flip::Active;
use shunt_shmlayout::regions::{ControlRegion, KeeperRegion, SwitcherRegion, Typed};
use shunt_shmlayout::sync::Ordering;

/// The regions it looks at.
pub struct Watcher {
    control: ControlRegion,
    switchers: Vec<SwitcherRegion>,
}

/// What one back-end gets.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub backend: BackendId,
    /// Of the service's slots, from 0 to 1.
    pub slots: f64,
    /// Connections that the switchers have opened to it, ever.
    pub opened: u64,
    /// Requests in flight, by its last report.
    pub in_flight: u32,
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub struct Look {
    /// All switchers use this generation.
    pub is_in_use: bool,
    pub shares: Vec<Share>,
}

impl Look {
    pub fn of(&self, backend: BackendId) -> Option<&Share> {
        self.shares.iter().find(|share| share.backend == backend)
    }
}

impl Watcher {
    pub fn attach(instance: &Instance) -> Result<Self> {
        let keeper: KeeperRegion = attach(instance, "keeper")?;
        let numbers = 0..keeper.switchers.len();
        let switchers = numbers.map(|number| attach(instance, &format!("switcher.{number}"))).collect::<Result<_>>()?;
        Ok(Self { control: attach(instance, "control")?, switchers })
    }

    fn active(&self) -> Active {
        Active(self.control.head.active.load(Ordering::Acquire)) // pairs with publish()
    }

    fn generation(&self) -> &Generation {
        &self.control.generations[self.active().buffer()]
    }

    pub fn name(&self, backend: BackendId) -> Name {
        self.generation().backend_names[usize::from(backend.0)].load()
    }

    /// The back-end of this name among those of the first service.
    pub fn find(&self, name: &str) -> Option<BackendId> {
        let look = self.look().ok()?;
        look.shares.into_iter().map(|share| share.backend).find(|backend| self.name(*backend) == Name::new(name))
    }

    /// Looks until no flip comes in between.
    pub fn look(&self) -> Result<Look> {
        for _ in 0..100 {
            let active = self.active();
            if active == Active::NONE {
                bail!("nothing is published yet");
            }
            let shares = self.shares(&self.control.generations[active.buffer()])?;
            let is_in_use = |switcher: &SwitcherRegion| switcher.head.in_use.load(Ordering::Acquire) == active.0;
            let look = Look { is_in_use: self.switchers.iter().all(is_in_use), shares };
            if self.active() == active {
                return Ok(look);
            }
        }
        bail!("control publishes faster than this process reads")
    }

    fn shares(&self, generation: &Generation) -> Result<Vec<Share>> {
        let service = generation.service(ServiceId(0)).context("there is no service")?;
        let slots = generation.slots.iter().skip(service.slots_first as usize).take(service.slots_count as usize);
        let slots: Vec<u16> = slots.map(|slot| slot.load(Ordering::Relaxed)).collect();
        let share = |backend: BackendId| Share {
            backend,
            slots: slots.iter().filter(|slot| **slot == backend.0).count() as f64 / slots.len().max(1) as f64,
            opened: self.switchers.iter().map(|switcher| switcher.backends[usize::from(backend.0)].opened.get()).sum(),
            in_flight: self.control.loads.get(backend).in_flight,
        };
        Ok(generation.members_of(&service).map(|member| share(BackendId(member.backend))).collect())
    }
}

fn attach<R: Typed>(instance: &Instance, region: &str) -> Result<R> {
    Ok(R::attach(&region_name(instance, region))?.0)
}
