//! Applies the receive flags of the port records: interface settings and the kernel's receive threads.

use std::collections::BTreeSet;
use std::time::Instant;

use shunt_config::Config;
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::regions::{KeeperRegion, PORT_BUSY_POLLS, PORT_THREADED, PortRecord};

use super::check::Facts;
use super::interrupts::{BUSY_POLLING, RECEIVE_THREADS, Restore, Setting};
use super::receive_threads::ReceiveThreads;

/// In force until dropped. Dropping restores the interfaces' settings, unless a switcher is alive: then they stay for the
/// next keeper.
pub(super) struct Reception {
    restores: Vec<Restore>,
    keeper: KeeperRegion<Writer>,
    threads: Vec<ReceiveThreads>,
}

impl Reception {
    /// Applies the settings, and clears the "threaded" flag where that fails. `left`: the previous keeper was killed.
    pub fn begin(
        config: &Config,
        facts: &Facts,
        keeper: KeeperRegion<Writer>,
        records: &mut [PortRecord],
        left: bool,
    ) -> Reception {
        let name = |interface: usize| config.interfaces[interface].name.clone();
        let set = |interfaces: BTreeSet<usize>, settings: &[Setting]| -> Vec<Restore> {
            interfaces.into_iter().map(|it| Restore::after_setting(name(it), settings, left)).collect()
        };
        let mut restores = set(flagged(records, PORT_BUSY_POLLS), BUSY_POLLING);
        restores.extend(set(flagged(records, PORT_THREADED), RECEIVE_THREADS));
        for interface in restores.iter().filter_map(Restore::incomplete) {
            let of_it = |port: &&mut PortRecord| config.interfaces[usize::from(port.interface)].name == interface;
            records.iter_mut().filter(of_it).for_each(|port| port.flags &= !PORT_THREADED);
        }
        let threads = flagged(records, PORT_THREADED).into_iter().map(|interface| {
            ReceiveThreads::new(name(interface), facts.interfaces[interface].index, cpus(facts, records, interface))
        });
        Reception { threads: threads.collect(), keeper, restores }
    }

    /// Pins new threads: an interface that was down gets new ones.
    pub fn keep(&mut self) {
        let now = Instant::now();
        self.threads.iter_mut().for_each(|threads| threads.keep(now));
    }
}

impl Drop for Reception {
    fn drop(&mut self) {
        if self.keeper.has_living_switcher() {
            self.restores.drain(..).for_each(Restore::leave);
        }
    }
}

/// The interfaces with a port that has this flag.
fn flagged(records: &[PortRecord], flag: u8) -> BTreeSet<usize> {
    let has = |port: &&PortRecord| port.flags & flag != 0;
    records.iter().filter(has).map(|port| usize::from(port.interface)).collect()
}

/// By queue of an interface, the CPU of the switcher that polls it.
fn cpus(facts: &Facts, records: &[PortRecord], interface: usize) -> Vec<u32> {
    let own = records.iter().filter(|port| usize::from(port.interface) == interface);
    let mut own: Vec<_> = own.filter(|port| port.flags & PORT_THREADED != 0).collect();
    own.sort_by_key(|port| port.queue);
    own.iter().map(|port| facts.cpus[usize::from(port.switcher)]).collect()
}
