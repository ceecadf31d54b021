//! Back-ends that are up but do not answer: their share of the clients is lost.

use super::{Problem, Severity};
use crate::format::duration;
use shunt_protocol::admin::UnansweredBackend;

/// The remedy for replies on another path.
pub const ROUTE_REPLIES: &str = "let the back-end route its replies through Shunt, as by a default route to it (and not filter \
                                 clients' addresses); with health.as_client = true its check finds this";

/// The problem of a back-end that does not answer.
pub fn unanswered_text(UnansweredBackend { connections, age_ms, has_answered, .. }: &UnansweredBackend) -> String {
    let before = if *has_answered { "" } else { ", nor any before" };
    format!(
        "is up, but none of the last {connections} connections that it was sent in {} was answered through Shunt{before}: \
         its clients hang",
        duration(*age_ms)
    )
}

pub(super) fn unanswered(backend: &UnansweredBackend) -> Problem {
    let object = format!("backend {}", backend.name);
    // SYNs with forged source addresses that the backend's filter drops are enough to silence one that works.
    let severity = if backend.has_answered { Severity::Notice } else { Severity::Degraded };
    Problem::new("backend_unanswered", severity, object, unanswered_text(backend), ROUTE_REPLIES)
}
