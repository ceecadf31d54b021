//! Says once that something doesn't work, and once that it works again, however often it is tried.

use std::fmt::Display;

/// The trouble with one thing.
#[derive(Debug)]
pub(crate) struct Trouble {
    with: String,
    said: Option<String>,
}

impl Trouble {
    /// None so far.
    pub fn new(with: impl Into<String>) -> Self {
        Self { with: with.into(), said: None }
    }

    /// Whether it works now.
    pub fn note<T, E: Display>(&mut self, result: Result<T, E>) {
        match result {
            Ok(_) => self.clear(),
            Err(why) => self.report(why),
        }
    }

    /// It doesn't work.
    pub fn report(&mut self, why: impl Display) {
        let why = why.to_string();
        if self.said.as_ref() != Some(&why) {
            log::warn!("{}: {why}", self.with);
            self.said = Some(why);
        }
    }

    /// It works.
    pub fn clear(&mut self) {
        if self.said.take().is_some() {
            log::info!("{}: works again", self.with);
        }
    }
}
