//! Control's decisions: one value, without sockets, tasks, files or clocks. `process` runs it.
//!
//! ```text
//!                    Inputs: the time, events, the kernel's network state
//!                                     |
//!  turn:  each event --> note it      |
//!         every few milliseconds: heartbeat, interfaces, neighbours, loads, answers, publication, draining, orders that
//!             waited too long         |
//!                                     v
//!                    Outputs: answers, neighbours to resolve, addresses to announce, checks to run, ...
//! ```
//!
//! A turn changes shared memory and its own state only. Events only update state; the periodic part publishes the result.
//! State is published once [`publication::Publication::mark`] gets the [`Cause`].

mod answers;
pub mod cause;
mod cost;
mod draining;
mod feedback;
pub mod health;
mod neighbours;
mod network;
mod orders;
pub mod outside;
mod paths;
mod publication;
mod reload;
mod selection;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use log::info;
use shunt_config::Config;

use crate::announcements::Announcements;
use crate::clock::Now;
use crate::health::notes::Notes;
use crate::start::Memory;
use answers::Watch;
use draining::Draining;
use feedback::Feedback;
use neighbours::Asking;
use orders::Waiting;
use outside::{Configurations, Event, Inputs, Outputs, Turn};
use paths::Checked;
use publication::Publication;
use shunt_publish::candidate::Candidate;
use shunt_publish::fib::{Fib, Interfaces};
use shunt_publish::own::OwnAddresses;
use shunt_publish::table::Table;

/// Interval of the periodic part while changes are on their way to the switchers, and otherwise: it bounds the latency of a
/// switcher's neighbour request, and each run takes some 50 us of CPU time.
const TURN_MS: u64 = 5;
const QUIET_TURN_MS: u64 = 20;

/// Control's complete state.
pub struct Control {
    path: PathBuf,
    config: Config,
    memory: Memory,
    table: Table,
    fib: Fib,
    own: OwnAddresses,
    interfaces: Interfaces,
    asking: Asking,
    announcements: Announcements,
    publication: Publication,
    draining: Draining,
    checked: Checked,
    feedback: Feedback,
    watch: Watch,
    /// Reason and time of each check's last change.
    notes: Notes,
    waiting: Vec<Waiting>,
    /// Why the file was refused when it was last read.
    refusal: Option<String>,
    /// Unusable keys of agents, and why.
    missing_keys: Vec<String>,
    /// When the periodic part last ran.
    last_ms: u64,
}

/// The state that control starts with.
pub struct Beginning {
    /// The configuration file.
    pub path: PathBuf,
    /// The candidate from the file or from the saved configuration.
    pub candidate: Candidate,
    /// The regions.
    pub memory: Memory,
    /// A predecessor's notes on checks.
    pub notes: Notes,
    /// Why the file is not used, if it is not.
    pub refusal: Option<String>,
}

impl Control {
    /// Takes over the instance, with or without a predecessor's state.
    pub fn new(beginning: Beginning, now: Now) -> (Self, Outputs) {
        let Beginning { path, candidate, memory, notes, refusal } = beginning;
        let Candidate { document, table, agents, missing_keys } = candidate;
        memory.control.head.heartbeat_ms.set(now.monotonic_ms);
        let mut control = Self {
            path,
            publication: Publication::new(&memory, now.monotonic_ms),
            memory,
            table,
            fib: Fib::default(),
            own: OwnAddresses::default(),
            interfaces: Interfaces::default(),
            asking: Asking::default(),
            announcements: Announcements::default(),
            draining: Draining::default(),
            checked: Checked::default(),
            feedback: Feedback::new(now),
            watch: Watch::default(),
            notes,
            waiting: Vec::new(),
            refusal,
            missing_keys: missing_keys.iter().map(ToString::to_string).collect(),
            last_ms: now.monotonic_ms,
            config: document.config.clone(),
        };
        let mut outputs = Outputs::default();
        control.check_health(now, &mut outputs);
        control.configure_feedback(agents, now, &mut outputs);
        if control.refusal.is_none() {
            control.keep(&document, now, &mut outputs);
        }
        let (services, backends) = (control.config.services.len(), control.table.backends().count());
        info!("instance {}: {services} services, {backends} backends", control.config.instance);
        (control, outputs)
    }

    /// Handles events and runs what is due.
    pub fn turn(&mut self, inputs: Inputs<'_>, configurations: &mut dyn Configurations) -> Outputs {
        let Inputs { now, events, kernel, circumstances } = inputs;
        self.feedback.cost.note(circumstances.last_turn_us);
        let mut turn = Turn { now, kernel, circumstances, configurations, outputs: Outputs::default() };
        for event in events {
            self.take(event, &mut turn);
        }
        if now.monotonic_ms >= self.due_ms() {
            self.last_ms = now.monotonic_ms;
            self.do_regularly(&mut turn);
        }
        turn.outputs
    }

    /// The time of the next turn, at the latest.
    pub fn due_ms(&self) -> u64 {
        self.last_ms + if self.is_busy() { TURN_MS } else { QUIET_TURN_MS }
    }

    /// Each check's last result.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// The regions.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The table to be published.
    pub fn table(&self) -> &Table {
        &self.table
    }

    fn is_busy(&self) -> bool {
        self.publication.is_busy() || !self.waiting.is_empty() || self.asking.is_busy() || self.feedback.is_busy()
    }

    fn take(&mut self, event: Event, turn: &mut Turn<'_>) {
        match event {
            Event::Health(report) => self.record_health(report, turn.now),
            Event::Network(changes) => self.follow_network(changes, turn),
            Event::Unanswered(addresses) => self.count_own_calls(&addresses),
            Event::Order { ticket, command } => self.handle_command(ticket, command, turn),
            Event::Hangup => self.reload_on_signal(turn),
            Event::Datagram { source, bytes } => self.take_report(source, &bytes, turn.now),
            Event::Answer(outcome) => self.record_answer(outcome, turn.now),
            Event::Counted(count) => self.retire(count),
        }
    }

    fn do_regularly(&mut self, turn: &mut Turn<'_>) {
        let now_ms = turn.now.monotonic_ms;
        self.memory.control.head.heartbeat_ms.set(now_ms);
        self.follow_interfaces(turn);
        self.ask_for_neighbours(turn);
        self.follow_loads(now_ms);
        self.collect_answers(now_ms);
        self.publish(turn);
        self.count_connections(turn);
        self.give_up_waiting(turn);
    }
}
