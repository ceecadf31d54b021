//! Clients whose traffic shows what a balancer did to it: everything sent is numbered, every answer is compared.

pub mod bystander;
pub mod datagrams;
pub mod http;
pub mod load;
pub mod ping;
pub mod streams;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a client waits for an answer before it counts as none. Far above any retransmission.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Tells the threads of a load that it is over.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn order(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_ordered(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
