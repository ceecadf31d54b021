//! Collects all problems in one text, so that the operator sees them at once.

use std::cell::RefCell;
use std::ops::Range;

use crate::error::{ConfigError, Problem};
use crate::source::Source;

/// A position in the file.
#[derive(Debug, Clone)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Field path, as `service.web.address`.
    pub field: String,
}

/// A value and its position.
#[derive(Debug, Clone)]
pub struct Field<T> {
    /// The value.
    pub value: T,
    /// Its position.
    pub place: Place,
}

/// The problems found so far in one text.
pub struct Report {
    source: RefCell<Source>,
    /// Byte offset at which each line starts.
    line_starts: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
}

impl Report {
    /// Starts an empty report for `text`, the contents of `file`.
    pub fn new(file: &str, text: &str) -> Self {
        let after_newlines = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n').map(|(at, _)| at + 1);
        Self {
            source: RefCell::new(Source::new(file)),
            line_starts: std::iter::once(0).chain(after_newlines).collect(),
            problems: RefCell::default(),
        }
    }

    /// The line (from 1) in which a span starts.
    pub fn line_of(&self, span: &Range<usize>) -> usize {
        self.line_starts.partition_point(|&start| start <= span.start)
    }

    /// Records the position of a field.
    pub(crate) fn note(&self, place: &Place) {
        self.source.borrow_mut().note(&place.field, place.line);
    }

    /// The positions of all fields read so far.
    pub(crate) fn source(&self) -> Source {
        self.source.borrow().clone()
    }

    /// Adds a problem.
    pub fn refuse(&self, place: &Place, sentence: impl Into<String>) {
        let file = self.source.borrow().file().to_owned();
        let Place { line, field } = place.clone();
        self.problems.borrow_mut().push(Problem { file, line, field, sentence: sentence.into() });
    }

    /// Adds a problem of a field, at its recorded position.
    pub(crate) fn refuse_field(&self, field: String, sentence: String) {
        let problem = self.source.borrow().problem(field, sentence);
        self.problems.borrow_mut().push(problem);
    }

    /// Returns `value` if there is no problem.
    pub fn conclude<T>(self, value: Option<T>) -> Result<T, ConfigError> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        match value {
            Some(value) if problems.is_empty() => Ok(value),
            _ => Err(ConfigError::Refused(problems)),
        }
    }
}

/// Quotes `text` for a message: escapes control characters, and truncates it when it is long.
pub fn quoted(text: &str) -> String {
    const SHOWN_CHARACTERS: usize = 64;
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((cut, _)) => format!("{:?}...", &text[..cut]),
        None => format!("{text:?}"),
    }
}

/// Lists names for a message: the first ones, and the count of the rest.
pub fn listed(names: impl IntoIterator<Item = String>) -> String {
    const SHOWN: usize = 20;
    let mut names = names.into_iter();
    let shown: Vec<String> = names.by_ref().take(SHOWN).collect();
    match (shown.len(), names.count()) {
        (0, _) => "none".to_owned(),
        (_, 0) => shown.join(", "),
        (_, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_names_the_first_are_listed_and_the_others_counted() {
        let names = |count: usize| listed((1..=count).map(|n| format!("b{n}")));
        assert_eq!([names(0), names(1), names(3)], ["none", "b1", "b1, b2, b3"]);
        assert!(!names(20).contains("more") && names(23).ends_with(", b20 and 3 more"), "{}", names(23));
    }
}
