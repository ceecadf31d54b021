//! Where the numbers come from, a file each. What the kernel knows is read at each look ([`sockets`], [`machine`],
//! [`cgroup`]); what others know is asked for, and taken when they answer ([`Source`]), for a server that hangs must not
//! make its agent hang.

pub mod cgroup;
pub mod command;
mod http;
mod log_latch;
pub mod machine;
pub mod nginx;
mod number;
pub mod prometheus;
pub mod sockets;
pub mod statsd;
mod window;

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

pub(crate) use log_latch::LogLatch;
use shunt_report::Load;

/// A server is asked again at each look; an answer that takes longer than this won't come.
const PATIENCE: Duration = Duration::from_secs(1);

/// Something outside the agent that knows a back-end's load and answers in its own time.
pub trait Source {
    /// Asks, unless an answer is awaited or it isn't time yet.
    fn ask(&mut self, now: Instant);
    /// What to poll until the answer is there; nothing if none is awaited.
    fn awaited(&self) -> Option<(BorrowedFd<'_>, PollFlags)>;
    /// Whether a report should wait a little for its answer.
    fn is_prompt(&self) -> bool {
        true
    }
    /// Takes what has come, and gives up what takes too long.
    fn advance(&mut self, now: Instant);
    /// Adds what it knows to the back-end's load.
    fn contribute(&self, load: &mut Load);
}
