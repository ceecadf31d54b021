//! Detects backends that are up but answer no client; reads the switchers' counters each second.

use std::collections::BTreeSet;

use log::warn;
use shunt_shmlayout::address::{BackendId, Protocol};

use super::Control;
use crate::health::answers::{Answers, Seen, Unanswered};
use shunt_protocol::admin::UnansweredBackend;
use shunt_publish::table::{Backend, Table};

const INTERVAL_MS: u64 = 1_000;

/// The observed answers, and the time of the next check.
#[derive(Default)]
pub(super) struct Watch {
    answers: Answers,
    next_ms: u64,
}

impl Watch {
    /// Resets after a configuration change.
    pub fn forget(&mut self) {
        self.answers.forget();
    }
}

impl Control {
    pub(super) fn collect_answers(&mut self, now_ms: u64) {
        if now_ms < self.watch.next_ms {
            return;
        }
        self.watch.next_ms = now_ms + INTERVAL_MS;
        let seen = answering(&self.table).map(|id| (id, self.seen(id))).collect();
        for id in self.watch.answers.look(&seen, now_ms) {
            let name = self.table.backend(id).map_or("", |backend| &backend.name);
            warn!("backend {name} passes its check, and no client's connection to it is answered through Shunt");
        }
    }

    /// Sums over all switchers.
    fn seen(&self, id: BackendId) -> Seen {
        let at = usize::from(id.0);
        let switchers = &self.memory.switchers;
        let answered = switchers.iter().filter_map(|region| Some(region.answered_ms.get(at)?.get()));
        let opened = switchers.iter().filter_map(|region| Some(region.backends.get(at)?.opened.get()));
        Seen { answered_ms: answered.max().unwrap_or(0), opened: opened.fold(0, u64::wrapping_add) }
    }

    /// The silent backends.
    pub(super) fn unanswered_backends(&self, now_ms: u64) -> Vec<UnansweredBackend> {
        let named = self.watch.answers.unanswered(now_ms).filter_map(|(id, it)| Some((self.table.backend(id)?, it)));
        let tell = |(backend, it): (&Backend, Unanswered)| UnansweredBackend {
            name: backend.name.clone(),
            connections: it.connections,
            age_ms: it.age_ms,
            has_answered: it.has_answered,
        };
        named.map(tell).collect()
    }
}

/// Backends whose replies pass through the switchers: TCP, in service, and not behind a service whose replies bypass them.
/// A UDP server need not answer.
fn answering(table: &Table) -> impl Iterator<Item = BackendId> {
    let down = table.down();
    let behind = |sees_replies: bool| {
        let services = table.services().filter(move |(_, service)| service.mode.sees_replies() == sees_replies);
        services.flat_map(|(_, service)| service.members.iter().map(|member| member.backend)).collect::<BTreeSet<_>>()
    };
    let (seen, unseen) = (behind(true), behind(false));
    let is_eligible = move |id: &BackendId, backend: &Backend| {
        let in_service = !backend.drained && !backend.removed && !down.contains(id);
        let must_answer = match backend.identity.protocol {
            Protocol::Tcp => true,
            Protocol::Udp => false,
        };
        in_service && must_answer && seen.contains(id) && !unseen.contains(id)
    };
    table.backends().filter(move |(id, backend)| is_eligible(id, backend)).map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Health;
    use shunt_publish::table::{Capacity, NamedIds};
    use shunt_publish::testing::{config, region};

    #[test]
    fn answers_are_expected_of_nat_backends_in_service_only() {
        let config = config(&[(1, "nat", &[(1, 1), (2, 1), (3, 1)]), (2, "dsr", &[(4, 1)])]);
        let table = Table::new(Capacity::of(&region().generations[0]));
        let mut table = table.configured(&config, &NamedIds::default()).unwrap();
        let names = |table: &Table| {
            let name = |id| table.backend(id).map(|backend| backend.name.clone());
            answering(table).filter_map(name).collect::<Vec<_>>()
        };
        assert_eq!(names(&table), ["b1", "b2", "b3"]);
        table.set_drained(table.backend_named("b1").unwrap(), true);
        table.set_health(table.service_named("s1").unwrap(), table.backend_named("b2").unwrap(), Health::Down);
        assert_eq!(names(&table), ["b3"]);
    }
}
