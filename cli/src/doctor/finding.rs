//! One thing that the doctor looked at.

use serde::Serialize;
use std::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Shunt runs, but slower or not as one may expect.
    Warn,
    /// Shunt, or a part of it that is configured, doesn't run.
    Fail,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at; the same in every version.
    pub check: &'static str,
    /// Of which interface, CPU or service, where there are several.
    pub subject: Option<String>,
    /// What is.
    pub text: String,
    /// How to mend it.
    pub mend: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Ok, check, subject: None, text: text.into(), mend: None }
    }

    /// Worth a look.
    pub fn warn(check: &'static str, text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Warn, mend: Some(mend.into()), ..Self::ok(check, text) }
    }

    /// In the way.
    pub fn fail(check: &'static str, text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Fail, mend: Some(mend.into()), ..Self::ok(check, text) }
    }

    /// The same, of one of several.
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
