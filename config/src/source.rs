//! The position of each field in its file, for problems that only show on the machine.

use std::collections::BTreeMap;

use crate::error::Problem;

/// The file that a configuration came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    file: String,
    /// Line, from 1, by field path.
    lines: BTreeMap<String, usize>,
}

impl Source {
    pub(crate) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), lines: BTreeMap::new() }
    }

    pub(crate) fn note(&mut self, field: &str, line: usize) {
        self.lines.insert(field.to_owned(), line);
    }

    /// The file as the operator named it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// A problem of a field, at its line; if the file does not have the field, at the nearest enclosing table.
    pub fn problem(&self, field: impl Into<String>, sentence: impl Into<String>) -> Problem {
        let field = field.into();
        let line = self.line(&field);
        Problem { file: self.file.clone(), line, field, sentence: sentence.into() }
    }

    /// File, line and field, as the prefix of a problem.
    pub fn place(&self, field: &str) -> String {
        format!("{}:{}: {field}", self.file, self.line(field))
    }

    fn line(&self, field: &str) -> usize {
        let enclosing = std::iter::successors(Some(field), |path| path.rsplit_once('.').map(|(table, _)| table));
        enclosing.into_iter().find_map(|path| self.lines.get(path)).copied().unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_not_there_stands_at_the_table_around_it() {
        let mut source = Source::new("shunt.toml");
        source.note("limits", 3);
        source.note("limits.ring", 5);
        let lines = ["limits.ring", "limits.frames", "limits", "service.web.slots"].map(|field| source.line(field));
        assert_eq!(lines, [5, 3, 3, 1]);
        let problem = source.problem("limits.frames", "is too small").to_string();
        assert_eq!(problem, "shunt.toml:3: limits.frames: is too small");
    }
}
