//! What a switcher does when no packet came: the configuration says it, the keeper hands it over.

use serde::{Deserialize, Serialize};

/// What a switcher does when no packet came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Idle {
    /// Polls again: its CPU is its own.
    Spin,
    /// Lets others run first (`sched_yield`): its CPU is shared.
    Yield,
    /// Sleeps until packets come; the kernel's receive threads share its CPU.
    Wait,
}
