//! The operator's orders, and when they are answered: once what was ordered is published.

use log::info;
use shunt_shmlayout::address::BackendId;

use super::Control;
use super::cause::Cause;
use super::outside::{Ticket, Turn};
use super::selection::select;
use crate::clock::Now;
use crate::health::BackendKey;
use shunt_protocol::admin::{Accepted, BackendStatus, Command, FileStatus, Reply, Selection};
use shunt_publish::table::Backend;

/// After so long an order that isn't in force is answered with who is in the way.
const LONGEST_WAIT_MS: u64 = 5_000;

/// An order that was accepted and isn't in force yet.
pub(super) struct Waiting {
    what: Accepted,
    ticket: Ticket,
    until_ms: u64,
    /// The generation being prepared has it.
    is_filled: bool,
}

impl Control {
    pub(super) fn obey(&mut self, ticket: Ticket, command: Command, turn: &mut Turn<'_>) {
        let accepted = match command {
            Command::Reload => self.reload(turn).map_err(|error| error.to_string()),
            Command::Drain(selection) => self.drain(&selection, true),
            Command::Enable(selection) => self.drain(&selection, false),
            Command::Backends => return turn.reply(ticket, Reply::Backends { backends: self.backends(turn.now) }),
            Command::Configuration => return turn.reply(ticket, Reply::Configuration(self.file_status(turn))),
        };
        match accepted {
            Ok(what) => {
                let until_ms = turn.now.monotonic_ms + LONGEST_WAIT_MS;
                self.waiting.push(Waiting { what, ticket, until_ms, is_filled: false });
            }
            Err(error) => turn.reply(ticket, Reply::Refused { error }),
        }
    }

    /// All of the selected ones, or none: a name that isn't known is a mistake, and the others may be part of it.
    fn drain(&mut self, selection: &Selection, drained: bool) -> Result<Accepted, String> {
        let selected = select(&self.table, selection)?;
        for (id, name) in &selected {
            if self.table.set_drained(*id, drained) {
                info!("backend {name} is {}", if drained { "drained" } else { "in service again" });
            }
        }
        self.publication.mark(Cause::Drain); // even if it changes nothing: the order waits for a publication
        Ok(Accepted::Changed { backends: selected.into_values().collect() })
    }

    fn file_status(&self, turn: &Turn<'_>) -> FileStatus {
        let now_ms = turn.now.monotonic_ms;
        FileStatus {
            file: self.path.display().to_string(),
            refusal: self.refusal.clone(),
            unsaved: turn.circumstances.is_unsaved,
            missing_keys: self.missing_keys.clone(),
            reports: self.feedback.report_path(turn.circumstances.not_listening.as_ref(), now_ms),
            unanswered: self.unanswered_backends(now_ms),
        }
    }

    fn backends(&self, now: Now) -> Vec<BackendStatus> {
        let status = |(id, backend): (BackendId, &Backend)| BackendStatus {
            name: backend.name.clone(),
            address: backend.identity.socket_address().to_string(),
            state: match backend {
                Backend { removed: true, .. } => "removed",
                Backend { drained: true, .. } => "drained",
                _ if self.table.is_up(id) => "up",
                _ => "down",
            },
            health: self.health_text(id, backend, now),
            feedback: self.feedback.why(id).map(|(service, why)| (service.to_owned(), why.to_string())).collect(),
            connections: self.draining.counts.as_ref().map(|counts| counts.of_backend(id)),
        };
        self.table.backends().map(status).collect()
    }

    /// What each service's check of a backend last said, and how long ago.
    fn health_text(&self, id: BackendId, backend: &Backend, now: Now) -> String {
        let services = self.config.services.iter().filter(|service| service.health.is_some());
        let members = services.filter(|service| service.backends.iter().any(|member| member.name == backend.name));
        let texts = members.filter_map(|service| {
            let key = BackendKey { service: service.name.clone(), backend: backend.name.clone() };
            Some(format!("{}: {}", service.name, self.notes.get(&key)?.text(now.wall_ms())))
        });
        let texts: Vec<String> = if backend.removed { Vec::new() } else { texts.collect() };
        match texts.is_empty() {
            true if self.table.is_up(id) => "not checked".to_owned(),
            _ => texts.join("; "),
        }
    }

    /// What was accepted up to now is in the buffer being prepared.
    pub(super) fn accept_waiting(&mut self) {
        self.waiting.iter_mut().for_each(|waiting| waiting.is_filled = true);
    }

    pub(super) fn answer_waiting(&mut self, epoch: u64, turn: &mut Turn<'_>) {
        for waiting in self.waiting.extract_if(.., |waiting| waiting.is_filled) {
            turn.reply(waiting.ticket, Reply::InForce { what: waiting.what, epoch });
        }
    }

    pub(super) fn refuse_waiting(&mut self, error: &str, turn: &mut Turn<'_>) {
        for waiting in self.waiting.extract_if(.., |waiting| !waiting.is_filled) {
            turn.reply(waiting.ticket, Reply::Refused { error: error.to_owned() });
        }
    }

    pub(super) fn give_up_waiting(&mut self, turn: &mut Turn<'_>) {
        let now_ms = turn.now.monotonic_ms;
        if self.waiting.iter().all(|waiting| now_ms < waiting.until_ms) {
            return;
        }
        let holders = self.publication.publisher.holders();
        let who: Vec<String> = holders
            .iter()
            .map(|holder| {
                format!("switcher {} (pid {}) still uses epoch {}", holder.switcher, holder.pid, holder.epoch)
            })
            .collect();
        let who = if who.is_empty() { "control is busy".to_owned() } else { who.join(", ") };
        let error = format!("accepted, but not in force after {} s: {who}", LONGEST_WAIT_MS / 1000);
        for waiting in self.waiting.extract_if(.., |waiting| now_ms >= waiting.until_ms) {
            turn.reply(waiting.ticket, Reply::Refused { error: error.clone() });
        }
    }
}
