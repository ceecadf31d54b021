//! Counts connections while backends are drained or removed, and frees removed ones without connections.

use log::{error, info};

use super::Control;
use super::cause::Cause;
use super::outside::{Count, CountRequest, Turn};
use shunt_publish::retirement::ConnectionCounts;

/// Interval between counts.
const COUNT_INTERVAL_MS: u64 = 2_000;

/// The state of draining.
#[derive(Default)]
pub(super) struct Draining {
    next_ms: u64,
    is_counting: bool,
    /// The last count; `None` while nothing is drained.
    pub counts: Option<ConnectionCounts>,
    pub reloads: u64,
}

impl Control {
    /// Starts a count on another thread when due: a large table takes a good part of a second.
    pub(super) fn count_connections(&mut self, turn: &mut Turn<'_>) {
        let now_ms = turn.now.monotonic_ms;
        if !self.table.is_draining() {
            self.draining.counts = None;
            return;
        }
        // Only a count that started when every switcher used the generation with the removal is conclusive.
        let published = !self.publication.is_outdated() && self.publication.publisher.is_settled();
        if self.draining.is_counting || now_ms < self.draining.next_ms || !published {
            return;
        }
        self.draining.is_counting = true;
        self.draining.next_ms = now_ms + COUNT_INTERVAL_MS;
        let generation = &self.memory.control.generations[0];
        let (services, backends) = (generation.services.len(), generation.backends.len());
        let (leaving, reloads) = (self.table.leaving(), self.draining.reloads);
        turn.outputs.count = Some(CountRequest { leaving, reloads, services, backends });
    }

    pub(super) fn retire(&mut self, count: Count) {
        let Count { request, counts } = count;
        self.draining.is_counting = false;
        let counts = match counts {
            Ok(counts) => counts,
            Err(why) => {
                return error!("cannot count connections: {why}; next attempt in {} s", COUNT_INTERVAL_MS / 1000);
            }
        };
        if request.reloads == self.draining.reloads {
            for name in self.table.retire(&request.leaving, &counts) {
                info!("{name} has no connection left and is forgotten");
                self.publication.mark(Cause::Retirement);
            }
        }
        self.draining.counts = Some(counts);
    }
}
