//! A result of the doctor's checks.

use serde::Serialize;
use std::fmt;

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As expected.
    Ok,
    /// Shunt runs, but slower or with limitations.
    Warn,
    /// Shunt, or a configured part of it, does not run.
    Fail,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its severity.
    pub level: Level,
    /// Name of the check; the same in every version.
    pub check: &'static str,
    /// The interface, CPU or service, if there are several.
    pub subject: Option<String>,
    /// What was found.
    pub text: String,
    /// The remedy.
    pub mend: Option<String>,
}

impl Finding {
    /// A finding that is as expected.
    pub fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Ok, check, subject: None, text: text.into(), mend: None }
    }

    /// A warning.
    pub fn warn(check: &'static str, text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Warn, mend: Some(mend.into()), ..Self::ok(check, text) }
    }

    /// A failure.
    pub fn fail(check: &'static str, text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Fail, mend: Some(mend.into()), ..Self::ok(check, text) }
    }

    /// Sets the object of the finding.
    pub fn of(self, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok  ",
            Level::Warn => "warn",
            Level::Fail => "fail",
        };
        let subject = self.subject.as_ref().map(|subject| format!(" {subject}")).unwrap_or_default();
        writeln!(f, "{level}  {}{subject}: {}", self.check, self.text)?;
        self.mend.iter().try_for_each(|mend| writeln!(f, "      -> {mend}"))
    }
}
