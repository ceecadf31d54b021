//! From what changed to what is published: fills the free buffer, hands it to the flip, answers who waited for it.

use std::time::Instant;

use log::{debug, error, warn};
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::config_table::Generation;
use shunt_shmlayout::flip::Active;

use super::Control;
use crate::clock::wall_ms;
use shunt_publish::arp_cache::ArpCache;
use shunt_publish::image::{Image, hops};
use shunt_publish::publisher::Publisher;

/// What is known of publications.
pub(super) struct Publication {
    pub publisher: Publisher,
    pub cache: ArpCache,
    /// Something changed since the last image.
    pub dirty: bool,
    pub neighbours_changed: bool,
    /// What the active generation, or the one being prepared, holds; empty before the first.
    image: Image,
    /// What the last publication took of control's time, microseconds.
    pub cost_us: u64,
    /// Next hops without a place in the ARP cache, so that each change of their number is said once.
    without_place: usize,
}

impl Publication {
    pub fn new(publisher: Publisher, cache: ArpCache) -> Self {
        let image = Image::default();
        Self { publisher, cache, dirty: true, neighbours_changed: true, image, cost_us: 0, without_place: 0 }
    }

    /// Whether something changed, or is on its way.
    pub fn is_busy(&self) -> bool {
        self.dirty || self.neighbours_changed || self.publisher.is_on_its_way()
    }
}

impl Control {
    pub(super) fn publish(&mut self, now_ms: u64) {
        if let Some(active) = self.publication.publisher.advance(now_ms) {
            debug!("epoch {} is active", active.epoch());
            self.answer_published(active);
            // Once more if the buffer that is idle now names somebody who is gone: only when both generations have
            // forgotten an id may it be used again, and the keeper gives an address back to the kernel.
            let idle = &self.memory.control.generations[active.next().buffer()];
            self.publication.dirty |= !self.publication.image.covers(idle);
            self.announce();
        }
        if self.publication.dirty
            && let Some(idle) = self.publication.publisher.room(now_ms)
        {
            let start = Instant::now();
            self.fill(&idle, now_ms);
            self.publication.cost_us = start.elapsed().as_micros() as u64;
        }
        if std::mem::take(&mut self.publication.neighbours_changed) {
            self.follow_neighbours();
            self.find_paths();
        }
    }

    /// What the kernel knows of neighbours, and of itself where it is one.
    fn follow_neighbours(&mut self) {
        let known = &self.follower.state().neighbours;
        let own: Vec<_> = self.own.neighbours(self.publication.cache.kept(), &self.interfaces).collect();
        if own.is_empty() {
            return self.publication.cache.follow(known, &self.interfaces);
        }
        let mut known = known.clone();
        known.extend(own.into_iter().map(|neighbour| (neighbour.key, neighbour)));
        self.publication.cache.follow(&known, &self.interfaces);
    }

    fn fill(&mut self, idle: &Generation<Writer>, now_ms: u64) {
        self.publication.dirty = false;
        self.table.set_deadlines(now_ms);
        let hops = hops(&self.table, &self.ways);
        let keys = hops.iter().filter_map(|hop| self.interfaces.neighbour_key(hop));
        self.asking.keep(keys.filter(|key| !self.own.contains(key.address)));
        let wanted = hops.len();
        let interned = self.publication.cache.keep(hops, &self.memory.control.generations);
        self.complain(wanted - interned.len());
        self.publication.neighbours_changed = true; // hops that are kept from now on may be the machine itself
        let image = Image::new(&self.table, &self.ways, &interned);
        let publication = &mut self.publication;
        if image == publication.image && image.covers(idle) {
            let active = publication.publisher.active();
            self.accept_waiting();
            return self.answer_published(active);
        }
        if let Err(error) = image.write(idle, wall_ms(), now_ms) {
            error!("{error}");
            return self.refuse_waiting(&error.to_string());
        }
        publication.image = image;
        publication.publisher.prepare(now_ms);
        self.accept_waiting();
    }

    fn complain(&mut self, without_place: usize) {
        if without_place != std::mem::replace(&mut self.publication.without_place, without_place) && without_place != 0
        {
            warn!(
                "{without_place} next hops find no place in the ARP cache; raise limits.neighbours and restart Shunt"
            );
        }
    }

    fn answer_published(&mut self, active: Active) {
        self.answer_waiting(active.epoch());
    }
}
