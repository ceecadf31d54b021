//! What a switcher does after an empty turn: set in the configuration, handed over by the keeper.

use serde::{Deserialize, Serialize};

/// What a switcher does after an empty turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Idle {
    /// Polls again, on a dedicated CPU.
    Spin,
    /// Yields to other processes (`sched_yield`), on a shared CPU.
    Yield,
    /// Sleeps until packets arrive; the kernel's receive threads share its CPU.
    Wait,
}
