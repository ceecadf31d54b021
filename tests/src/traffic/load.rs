//! Everything at once, as real clients would: long connections and short requests.

use super::http::{HttpAccount, HttpLoad};
use super::streams::{Streams, Whole};
use crate::lab::{ECHO, Lab, WEB};
use anyhow::{Result, ensure};

/// Long connections, and threads that make short requests.
const LONG: usize = 12;
const SHORT: usize = 3;
/// More would say the same.
const FAILURES_SHOWN: usize = 3;

/// Clients that are at work.
pub struct Load {
    streams: Streams,
    http: HttpLoad,
}

impl Load {
    /// Starts them.
    pub fn start(lab: &Lab) -> Result<Self> {
        let streams = Streams::start(&lab.client(), ECHO, LONG)?;
        Ok(Self { streams, http: HttpLoad::start(&lab.client(), WEB, SHORT)? })
    }

    /// Ends them. Not one request may have failed, nor a long connection been cut or answered wrongly.
    pub fn finish_unharmed(self, lab: &Lab) -> Result<(Whole, HttpAccount)> {
        let (whole, http) = (self.streams.finish(), self.http.finish()?);
        let failures = http.failures.len();
        let first = &http.failures[..failures.min(FAILURES_SHOWN)];
        ensure!(failures == 0, "{failures} requests failed of {}: {first:?}", http.answered() + failures);
        ensure!(http.answered() > 0, "no request was answered");
        let known = lab.backends();
        ensure!(http.answers.keys().all(|name| known.contains(name)), "answers of strangers: {:?}", http.answers);
        Ok((whole?, http))
    }
}
