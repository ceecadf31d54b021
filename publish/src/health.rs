//! Whether a backend takes new connections.

/// Whether a backend takes new connections, as far as its check can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Up,
    /// It doesn't.
    Down,
}
