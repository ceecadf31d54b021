//! Operator commands. The reply is sent once every live switcher uses a generation that contains the change.

use log::info;
use shunt_shmlayout::address::BackendId;

use super::Control;
use super::cause::Cause;
use super::outside::{Ticket, Turn};
use super::selection::select;
use crate::clock::Now;
use crate::health::BackendKey;
use shunt_protocol::admin::{Accepted, BackendState, BackendStatus, Command, FileStatus, Reply, Selection};
use shunt_publish::publisher::Holder;
use shunt_publish::table::Backend;

/// Timeout after which a command that is not in force gets a reply that names what delays it.
const LONGEST_WAIT_MS: u64 = 5_000;

/// A command that was accepted but is not yet in force.
pub(super) struct Waiting {
    what: Accepted,
    ticket: Ticket,
    until_ms: u64,
    /// The epoch of the generation that contains it, active or in progress.
    epoch: Option<u64>,
}

impl Control {
    pub(super) fn handle_command(&mut self, ticket: Ticket, command: Command, turn: &mut Turn<'_>) {
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
                self.waiting.push(Waiting { what, ticket, until_ms, epoch: None });
            }
            Err(error) => turn.reply(ticket, Reply::Refused { error }),
        }
    }

    /// Applies to all selected backends or to none: an unknown name is a mistake that may affect the others.
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
                Backend { removed: true, .. } => BackendState::Removed,
                Backend { drained: true, .. } => BackendState::Drained,
                _ if self.table.is_up(id) => BackendState::Up,
                _ => BackendState::Down,
            },
            health: self.health_text(id, backend, now),
            feedback: self.feedback.why(id).map(|(service, why)| (service.to_owned(), why.to_string())).collect(),
            connections: self.draining.counts.as_ref().map(|counts| counts.of_backend(id)),
        };
        self.table.backends().map(status).collect()
    }

    /// Each service's last check result of a backend, and its age.
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

    /// The generation of this epoch contains all commands accepted so far.
    pub(super) fn note_filled(&mut self, epoch: u64) {
        for waiting in &mut self.waiting {
            waiting.epoch.get_or_insert(epoch);
        }
    }

    /// Replies to commands whose generation is active and used by every live switcher.
    pub(super) fn answer_waiting(&mut self, turn: &mut Turn<'_>) {
        let publisher = &self.publication.publisher;
        let active = publisher.active().epoch();
        let Some(newest) = self.waiting.iter().filter_map(|waiting| waiting.epoch).filter(|it| *it <= active).max()
        else {
            return;
        };
        let oldest_in_use = publisher.behind(newest).iter().map(|holder| holder.epoch).min().unwrap_or(newest);
        for waiting in self.waiting.extract_if(.., |waiting| waiting.epoch.is_some_and(|it| it <= oldest_in_use)) {
            let epoch = waiting.epoch.unwrap_or(active);
            turn.reply(waiting.ticket, Reply::InForce { what: waiting.what, epoch });
        }
    }

    /// The generation with these commands cannot be made. They stay pending, and control retries.
    pub(super) fn tell_failure(&mut self, error: &str, turn: &mut Turn<'_>) {
        let error = format!("accepted, but not in force: {error}; control goes on trying");
        for Waiting { what, ticket, .. } in self.waiting.extract_if(.., |waiting| waiting.epoch.is_none()) {
            turn.reply(ticket, Reply::Pending { what, error: error.clone() });
        }
    }

    pub(super) fn give_up_waiting(&mut self, turn: &mut Turn<'_>) {
        let now_ms = turn.now.monotonic_ms;
        if self.waiting.iter().all(|waiting| now_ms < waiting.until_ms) {
            return;
        }
        let publisher = &self.publication.publisher;
        let active = publisher.active().epoch();
        for Waiting { what, ticket, epoch, .. } in self.waiting.extract_if(.., |waiting| now_ms >= waiting.until_ms) {
            let behind = publisher.behind(epoch.unwrap_or(active).min(active));
            let error = format!("accepted, but not in force after {} s: {}", LONGEST_WAIT_MS / 1000, who(&behind));
            turn.reply(ticket, Reply::Pending { what, error });
        }
    }
}

/// The switchers that keep a command from being in force.
fn who(behind: &[Holder]) -> String {
    let one =
        |Holder { switcher, pid, epoch }: &Holder| format!("switcher {switcher} (pid {pid}) still uses epoch {epoch}");
    match behind {
        [] => "control is busy".to_owned(),
        _ => {
            behind.iter().map(one).collect::<Vec<_>>().join(", ")
                + "; the order takes effect there as soon as that goes on"
        }
    }
}
