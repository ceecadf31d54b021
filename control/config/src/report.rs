//! Collects everything that is wrong in one text, so that the operator sees it all at once.

use std::cell::RefCell;
use std::ops::Range;

use crate::error::{ConfigError, Problem};

/// Where in the file something stands.
#[derive(Debug, Clone)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Path of the field, as `service.web.address`.
    pub field: String,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Field<T> {
    /// What stands there.
    pub value: T,
    /// Where.
    pub place: Place,
}

/// The problems found so far in one text.
pub struct Report {
    file: String,
    /// Byte offset at which each line starts.
    line_starts: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
}

impl Report {
    /// No problems yet in `text`, which is `file`'s.
    pub fn new(file: &str, text: &str) -> Self {
        let after_newlines = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n').map(|(at, _)| at + 1);
        Self {
            file: file.to_owned(),
            line_starts: std::iter::once(0).chain(after_newlines).collect(),
            problems: RefCell::default(),
        }
    }

    /// The line (from 1) in which a span starts.
    pub fn line_of(&self, span: &Range<usize>) -> usize {
        self.line_starts.partition_point(|&start| start <= span.start)
    }

    /// One problem more.
    pub fn refuse(&self, place: &Place, sentence: impl Into<String>) {
        self.problems.borrow_mut().push(Problem {
            file: self.file.clone(),
            line: place.line,
            field: place.field.clone(),
            sentence: sentence.into(),
        });
    }

    /// `value` if nothing was wrong.
    pub fn conclude<T>(self, value: Option<T>) -> Result<T, ConfigError> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        match value {
            Some(value) if problems.is_empty() => Ok(value),
            _ => Err(ConfigError::Refused(problems)),
        }
    }
}

/// `text` in quotation marks, control characters escaped, cut when it is long: fit for a message.
pub fn quoted(text: &str) -> String {
    const SHOWN_CHARACTERS: usize = 64;
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((cut, _)) => format!("{:?}...", &text[..cut]),
        None => format!("{text:?}"),
    }
}
