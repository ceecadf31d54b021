//! Counting connections while somebody is drained or removed, and forgetting whom no connection names any more.

use log::info;
use tokio::sync::mpsc;

use super::Control;
use shunt_publish::retirement::{Counts, Leaving};

/// From one count to the next.
const COUNT_INTERVAL_MS: u64 = 2_000;

/// A count that is made.
pub(super) struct Count {
    counts: Counts,
    /// Who was removed when it began.
    leaving: Leaving,
    /// Of which configuration: in another one, who was removed then may be back, or removed once more.
    reloads: u64,
}

/// How far draining is.
pub(super) struct Draining {
    next_ms: u64,
    is_counting: bool,
    /// The last count; `None` while nobody is drained.
    pub counts: Option<Counts>,
    pub reloads: u64,
    done: mpsc::UnboundedSender<Count>,
}

impl Draining {
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Count>) {
        let (done, receiver) = mpsc::unbounded_channel();
        (Self { next_ms: 0, is_counting: false, counts: None, reloads: 0, done }, receiver)
    }
}

impl Control {
    /// Begins a count when it is time, on another thread: a large table takes a good part of a second.
    pub(super) fn count_connections(&mut self, now_ms: u64) {
        if !self.table.is_draining() {
            self.draining.counts = None;
            return;
        }
        // Only a count that began when every switcher used the generation that says "removed" proves anything.
        let published = !self.publication.dirty && self.publication.publisher.is_settled();
        if self.draining.is_counting || now_ms < self.draining.next_ms || !published {
            return;
        }
        self.draining.is_counting = true;
        self.draining.next_ms = now_ms + COUNT_INTERVAL_MS;
        let (connections, done) = (self.memory.connections, self.draining.done.clone());
        let generation = &self.memory.control.generations[0];
        let (services, backends) = (generation.services.len(), generation.backends.len());
        let (leaving, reloads) = (self.table.leaving(), self.draining.reloads);
        tokio::task::spawn_blocking(move || {
            let counts = Counts::scan(&connections, services, backends);
            // Nobody listens any more only when control stops.
            let _ = done.send(Count { counts, leaving, reloads });
        });
    }

    pub(super) fn retire(&mut self, count: Count) {
        self.draining.is_counting = false;
        if count.reloads == self.draining.reloads {
            for name in self.table.retire(&count.leaving, &count.counts) {
                info!("{name} has no connection left and is forgotten");
                self.publication.dirty = true;
            }
        }
        self.draining.counts = Some(count.counts);
    }
}
