//! The operator's orders, and when they are answered: once what was ordered is published.

use log::{error, info};
use shunt_config::ConfigError;
use shunt_shmlayout::address::BackendId;
use tokio::sync::oneshot;

use super::Control;
use super::selection::select;
use crate::admin::server::Order;
use crate::clock::{monotonic_ms, wall_ms};
use crate::health::BackendKey;
use shunt_protocol::admin::{Accepted, BackendStatus, Command, FileStatus, Reply, Selection};
use shunt_publish::candidate::{Candidate, Document, Grounds};
use shunt_publish::table::{Backend, NamedIds};

/// After so long an order that isn't in force is answered with who is in the way.
const LONGEST_WAIT_MS: u64 = 5_000;

/// An order that was accepted and isn't in force yet.
pub(super) struct Waiting {
    what: Accepted,
    answer: oneshot::Sender<Reply>,
    until_ms: u64,
    /// The generation being prepared has it.
    is_filled: bool,
}

impl Control {
    pub(super) fn obey(&mut self, order: Order) {
        let accepted = match order.command {
            Command::Reload => self.reload().map_err(|error| error.to_string()),
            Command::Drain(selection) => self.drain(&selection, true),
            Command::Enable(selection) => self.drain(&selection, false),
            Command::Backends => return reply(order.answer, Reply::Backends { backends: self.backends() }),
            Command::Configuration => return reply(order.answer, Reply::Configuration(self.file_status())),
        };
        match accepted {
            Ok(what) => {
                let until_ms = monotonic_ms() + LONGEST_WAIT_MS;
                self.waiting.push(Waiting { what, answer: order.answer, until_ms, is_filled: false });
                self.publication.dirty = true;
            }
            Err(error) => reply(order.answer, Reply::Refused { error }),
        }
    }

    /// SIGHUP: the log is the only answer.
    pub(super) fn reload_on_signal(&mut self) {
        if self.reload().is_ok() {
            self.publication.dirty = true;
        }
    }

    /// All of the file is taken, or nothing.
    fn reload(&mut self) -> Result<Accepted, ConfigError> {
        // Reports under the old names must not be taken for others of the same name.
        while let Ok(report) = self.inputs.reports.try_recv() {
            self.record_health(report);
        }
        let candidate = self.candidate().inspect_err(|refusal| {
            self.memory.control.head.reloads_refused.add(1);
            error!("reload refused, the configuration stays as it was:\n{refusal}");
        });
        self.refusal = candidate.as_ref().err().map(ConfigError::to_string);
        Ok(self.accept(candidate?))
    }

    /// What the file comes to, if all of it can be used.
    fn candidate(&mut self) -> Result<Candidate, ConfigError> {
        let named = NamedIds::in_generations(&self.memory.control.generations);
        let (rehearsal, table, named, running) = (&self.rehearsal, &self.table, &named, Some(&self.config));
        let grounds = Grounds { rehearsal, table, named, running };
        Candidate::new(Document::read(&self.path)?, &grounds, &mut self.address_locks)
    }

    fn accept(&mut self, candidate: Candidate) -> Accepted {
        let Candidate { document, table, agents } = candidate;
        self.keep(&document);
        self.missing_keys.clear();
        (self.config, self.table) = (document.config, table);
        self.draining.reloads += 1;
        self.watch.forget();
        self.check_health();
        self.heed(agents);
        let services = self.config.services.len();
        let backends = self.table.backends().filter(|(_, backend)| !backend.removed).count();
        info!("reloaded {}: {services} services, {backends} backends", self.path.display());
        Accepted::Reloaded { services, backends }
    }

    /// All of the selected ones, or none: a name that isn't known is a mistake, and the others may be part of it.
    fn drain(&mut self, selection: &Selection, drained: bool) -> Result<Accepted, String> {
        let selected = select(&self.table, selection)?;
        for (id, name) in &selected {
            if self.table.set_drained(*id, drained) {
                info!("backend {name} is {}", if drained { "drained" } else { "in service again" });
            }
        }
        Ok(Accepted::Changed { backends: selected.into_values().collect() })
    }

    fn file_status(&self) -> FileStatus {
        FileStatus {
            file: self.path.display().to_string(),
            refusal: self.refusal.clone(),
            unsaved: !self.accepted.is_saved(),
            missing_keys: self.missing_keys.clone(),
            reports: self.feedback.report_path(monotonic_ms()),
            unanswered: self.unanswered_backends(monotonic_ms()),
        }
    }

    fn backends(&self) -> Vec<BackendStatus> {
        let status = |(id, backend): (BackendId, &Backend)| BackendStatus {
            name: backend.name.clone(),
            address: backend.identity.socket_address().to_string(),
            state: match backend {
                Backend { removed: true, .. } => "removed",
                Backend { drained: true, .. } => "drained",
                _ if self.table.is_up(id) => "up",
                _ => "down",
            },
            health: self.health_text(id, backend),
            feedback: self.feedback.why(id).map(|(service, why)| (service.to_owned(), why.to_string())).collect(),
            connections: self.draining.counts.as_ref().map(|counts| counts.of_backend(id)),
        };
        self.table.backends().map(status).collect()
    }

    /// What each service's check of a backend last said, and how long ago.
    fn health_text(&self, id: BackendId, backend: &Backend) -> String {
        let services = self.config.services.iter().filter(|service| service.health.is_some());
        let members = services.filter(|service| service.backends.iter().any(|member| member.name == backend.name));
        let now_ms = wall_ms();
        let texts = members.filter_map(|service| {
            let key = BackendKey { service: service.name.clone(), backend: backend.name.clone() };
            Some(format!("{}: {}", service.name, self.notes.get(&key)?.text(now_ms)))
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

    pub(super) fn answer_waiting(&mut self, epoch: u64) {
        for waiting in self.waiting.extract_if(.., |waiting| waiting.is_filled) {
            reply(waiting.answer, Reply::InForce { what: waiting.what, epoch });
        }
    }

    pub(super) fn refuse_waiting(&mut self, error: &str) {
        for waiting in self.waiting.extract_if(.., |waiting| !waiting.is_filled) {
            reply(waiting.answer, Reply::Refused { error: error.to_owned() });
        }
    }

    pub(super) fn give_up_waiting(&mut self, now_ms: u64) {
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
            reply(waiting.answer, Reply::Refused { error: error.clone() });
        }
    }
}

/// A client that hung up meanwhile gets none.
fn reply(answer: oneshot::Sender<Reply>, reply: Reply) {
    let _ = answer.send(reply);
}
