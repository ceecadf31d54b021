//! Sources of metrics, one file each. The kernel's are read at each sample ([`sockets`], [`machine`], [`cgroup`]); other
//! sources are queried and read when they answer ([`Source`]), so that a server that hangs does not block its agent.

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
use shunt_report::ReportedLoad;

/// Timeout of a query; a server is queried again at each sample.
const PATIENCE: Duration = Duration::from_secs(1);

/// A source outside the agent that answers asynchronously.
pub trait Source {
    /// Sends a query, unless one is pending or the interval has not passed.
    fn ask(&mut self, now: Instant);
    /// What to poll while an answer is pending; `None` if none is.
    fn awaited(&self) -> Option<(BorrowedFd<'_>, PollFlags)>;
    /// Whether a report should briefly wait for its answer.
    fn is_prompt(&self) -> bool {
        true
    }
    /// Reads available data, and gives up after the timeout.
    fn advance(&mut self, now: Instant);
    /// Adds its metrics to the back-end's load.
    fn contribute(&self, load: &mut ReportedLoad);
}
