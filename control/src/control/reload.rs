//! Reloads the configuration, completely or not at all.

use log::{error, info};
use shunt_config::ConfigError;

use super::Control;
use super::cause::Cause;
use super::outside::{Outputs, Turn};
use crate::clock::Now;
use shunt_protocol::admin::Accepted;
use shunt_publish::candidate::{Candidate, Document};
use shunt_publish::table::NamedIds;

impl Control {
    /// SIGHUP: the only reply is the log.
    pub(super) fn reload_on_signal(&mut self, turn: &mut Turn<'_>) {
        // The refusal is logged and kept for `shunt status`.
        let _ = self.reload(turn);
    }

    /// Applies the whole file, or nothing.
    pub(super) fn reload(&mut self, turn: &mut Turn<'_>) -> Result<Accepted, ConfigError> {
        let named = NamedIds::in_generations(&self.memory.control.generations);
        let candidate = turn.configurations.read(&self.table, &named, &self.config).inspect_err(|refusal| {
            self.memory.control.head.reloads_refused.add(1);
            error!("reload refused, the configuration stays as it was:\n{refusal}");
        });
        self.refusal = candidate.as_ref().err().map(ConfigError::to_string);
        Ok(self.accept(candidate?, turn))
    }

    fn accept(&mut self, candidate: Candidate, turn: &mut Turn<'_>) -> Accepted {
        let Candidate { document, table, agents, missing_keys } = candidate;
        self.keep(&document, turn.now, &mut turn.outputs);
        self.missing_keys = missing_keys.iter().map(ToString::to_string).collect();
        (self.config, self.table) = (document.config, table);
        self.draining.reloads += 1;
        self.watch.forget();
        self.check_health(turn.now, &mut turn.outputs);
        self.find_paths(turn);
        self.configure_feedback(agents, turn.now, &mut turn.outputs);
        self.publication.mark(Cause::Reload);
        let services = self.config.services.len();
        let backends = self.table.backends().filter(|(_, backend)| !backend.removed).count();
        info!("reloaded {}: {services} services, {backends} backends", self.path.display());
        Accepted::Reloaded { services, backends }
    }

    /// Saves an accepted configuration for a successor.
    pub(super) fn keep(&mut self, document: &Document, now: Now, outputs: &mut Outputs) {
        outputs.accepted = Some(document.text.clone());
        self.memory.control.head.reloaded_ms.set(now.wall_ms());
    }
}
