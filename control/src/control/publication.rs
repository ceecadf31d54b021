//! From changes to a publication: fills the free buffer, passes it to the flip, replies to pending commands.

use log::{debug, error, warn};
use shunt_shmlayout::access::Writer;
use shunt_shmlayout::config_table::Generation;
use shunt_shmlayout::flip::Active;

use super::Control;
use super::cause::{Cause, Causes};
use super::outside::{Published, Turn};
use crate::start::Memory;
use shunt_publish::arp_cache::ArpCache;
use shunt_publish::image::{Image, hops};
use shunt_publish::publisher::Publisher;

/// The state of publications.
pub(super) struct Publication {
    pub publisher: Publisher,
    pub cache: ArpCache,
    /// Causes since the last image.
    outdated: Causes,
    /// Causes of the image being published.
    on_its_way: Causes,
    pub neighbours_changed: bool,
    /// The content of the active generation or of the one being prepared; empty before the first.
    image: Image,
    /// Number of next hops without an ARP cache entry, so that each change is logged once.
    without_place: usize,
}

impl Publication {
    /// Resumes from the memory's state.
    pub fn new(memory: &Memory, now_ms: u64) -> Self {
        let region = memory.control;
        let switchers = memory.switchers.iter().map(|switcher| switcher.lend()).collect();
        Self {
            publisher: Publisher::new(region, memory.keeper, switchers, now_ms),
            cache: ArpCache::new(region.neighbours, &region.generations),
            outdated: Causes::from_iter([Cause::Start]),
            on_its_way: Causes::default(),
            neighbours_changed: true,
            image: Image::default(),
            without_place: 0,
        }
    }

    /// Marks the published tables as out of date: they are published again once a buffer is free.
    pub fn mark(&mut self, cause: Cause) {
        self.outdated.add(cause);
    }

    /// Returns true if a publication is pending.
    pub fn is_outdated(&self) -> bool {
        !self.outdated.is_empty()
    }

    /// Returns true if a change is pending or in progress.
    pub fn is_busy(&self) -> bool {
        self.is_outdated() || self.neighbours_changed || self.publisher.is_on_its_way()
    }
}

impl Control {
    pub(super) fn publish(&mut self, turn: &mut Turn<'_>) {
        let now_ms = turn.now.monotonic_ms;
        if let Some(active) = self.publication.publisher.advance(now_ms) {
            self.note_published(active, turn);
        }
        if self.publication.is_outdated()
            && let Some(idle) = self.publication.publisher.room(now_ms)
        {
            self.fill(&idle, turn);
        }
        self.answer_waiting(turn);
        if std::mem::take(&mut self.publication.neighbours_changed) {
            self.follow_neighbours(turn);
            self.find_paths(turn);
        }
    }

    fn note_published(&mut self, active: Active, turn: &mut Turn<'_>) {
        let causes = std::mem::take(&mut self.publication.on_its_way);
        debug!("epoch {} is active; why: {causes}", active.epoch());
        // Publishes again if the idle buffer references a removed item: only when both generations no longer reference an
        // id may it be reused, and may the keeper return an address to the kernel.
        let idle = &self.memory.control.generations[active.next().buffer()];
        if !self.publication.image.covers(idle) {
            self.publication.mark(Cause::IdleBuffer);
        }
        self.announce(turn);
        turn.outputs.published = Some(Published { epoch: active.epoch(), causes });
    }

    /// The kernel's neighbours, and the machine itself where a backend is local.
    fn follow_neighbours(&mut self, turn: &Turn<'_>) {
        let known = &turn.kernel.neighbours;
        let own: Vec<_> = self.own.neighbours(self.publication.cache.kept(), &self.interfaces).collect();
        if own.is_empty() {
            return self.publication.cache.follow(known, &self.interfaces);
        }
        let mut known = known.clone();
        known.extend(own.into_iter().map(|neighbour| (neighbour.key, neighbour)));
        self.publication.cache.follow(&known, &self.interfaces);
    }

    fn fill(&mut self, idle: &Generation<Writer>, turn: &mut Turn<'_>) {
        let now_ms = turn.now.monotonic_ms;
        self.feedback.cost.has_filled();
        let causes = std::mem::take(&mut self.publication.outdated);
        self.table.set_deadlines(now_ms);
        let hops = hops(&self.table, &self.fib);
        let keys = hops.iter().filter_map(|hop| self.interfaces.neighbour_key(hop));
        self.asking.keep(keys.filter(|key| !self.own.contains(key.address)));
        let wanted = hops.len();
        let interned = self.publication.cache.keep(hops, &self.memory.control.generations);
        self.warn_without_place(wanted - interned.len());
        self.publication.neighbours_changed = true; // hops that are kept from now on may be the machine itself
        let image = Image::new(&self.table, &self.fib, &interned);
        let publication = &mut self.publication;
        if image == publication.image && image.covers(idle) {
            let active = publication.publisher.active();
            return self.note_filled(active.epoch());
        }
        let wall_ms = turn.now.wall_ms();
        if let Err(error) = publication.publisher.fill(idle, now_ms, |idle| image.write(idle, wall_ms, now_ms)) {
            error!("{error}");
            publication.outdated.merge(&causes);
            return self.tell_failure(&error.to_string(), turn);
        }
        publication.image = image;
        publication.on_its_way = causes;
        let epoch = publication.publisher.active().next().epoch();
        self.note_filled(epoch);
    }

    fn warn_without_place(&mut self, without_place: usize) {
        if without_place != std::mem::replace(&mut self.publication.without_place, without_place) && without_place != 0
        {
            warn!(
                "{without_place} next hops find no place in the ARP cache; raise limits.neighbours and restart Shunt"
            );
        }
    }
}
