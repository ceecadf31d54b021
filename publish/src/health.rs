//! The health of a backend.

/// Whether a backend's check passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// The check passes.
    Up,
    /// The check fails.
    Down,
}
