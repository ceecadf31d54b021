//! A log-once latch: logs the first failure of a repeated action, and the first success after it.

use std::fmt::Display;

/// The state of one action.
#[derive(Debug)]
pub(crate) struct LogLatch {
    with: String,
    said: Option<String>,
}

impl LogLatch {
    /// Starts without a failure.
    pub fn new(with: impl Into<String>) -> Self {
        Self { with: with.into(), said: None }
    }

    /// Records a result.
    pub fn note<T, E: Display>(&mut self, result: Result<T, E>) {
        match result {
            Ok(_) => self.clear(),
            Err(why) => self.report(why),
        }
    }

    /// Records a failure.
    pub fn report(&mut self, why: impl Display) {
        let why = why.to_string();
        if self.said.as_ref() != Some(&why) {
            log::warn!("{}: {why}", self.with);
            self.said = Some(why);
        }
    }

    /// Records a success.
    pub fn clear(&mut self) {
        if self.said.take().is_some() {
            log::info!("{}: works again", self.with);
        }
    }
}
