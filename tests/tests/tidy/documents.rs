//! What documents say about the tree and about each other.

use super::{UNSAFE, members, relative, sources};
use shunt_tests::operator::root;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Characters of a line of prose; tables and what programs print may be wider.
const WIDEST_PROSE: usize = 150;

/// A document with its path from the top.
struct Document {
    path: String,
    text: String,
}

impl Document {
    fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), text }
    }

    fn all() -> Vec<Self> {
        let folders = ["", "docs", "docs/design", "docs/decisions"];
        let all: Vec<Self> = folders.iter().flat_map(|folder| documents_in(folder)).map(|it| Self::read(&it)).collect();
        assert!(all.len() > 100, "only {} documents found", all.len());
        all
    }

    /// Numbered lines outside of what programs print.
    fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut is_code = false;
        (1..).zip(self.text.lines()).filter(move |(_, line)| {
            let is_fence = line.starts_with("```");
            is_code ^= is_fence;
            !is_code && !is_fence
        })
    }

    /// Its headings of the second level.
    fn headings(&self) -> Vec<&str> {
        self.prose().filter_map(|(_, line)| line.strip_prefix("## ")).collect()
    }

    /// One of its sections.
    fn section(&self, heading: &str) -> &str {
        let mut sections = self.text.split("\n## ");
        let section = sections.find(|section| section.lines().next() == Some(heading));
        section.unwrap_or_else(|| panic!("{} has no section {heading:?}", self.path))
    }

    /// Targets of its links, but those to the network.
    fn links(&self) -> Vec<&str> {
        let targets = self.prose().flat_map(|(_, line)| line.split("](").skip(1));
        let targets = targets.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        targets.filter(|target| !target.contains("://")).collect()
    }

    /// What stands in backquotes.
    fn quoted(&self) -> Vec<&str> {
        self.prose().flat_map(|(_, line)| quoted(line)).collect()
    }
}

fn documents_in(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root().join(folder)).expect("a readable folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|it| it == "md")).map(|path| relative(&path)).collect()
}

fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// What a link to a heading is called: as GitHub does it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
}

#[test]
fn prose_is_not_too_wide() {
    let wide: Vec<String> = Document::all().iter().flat_map(wide_lines).collect();
    assert!(wide.is_empty(), "wider than {WIDEST_PROSE}: {wide:#?}");
}

fn wide_lines(document: &Document) -> Vec<String> {
    let text = document.prose().filter(|(_, line)| !line.starts_with('|'));
    let widths = text.map(|(number, line)| (number, line.chars().count()));
    let wide = widths.filter(|(_, width)| *width > WIDEST_PROSE);
    wide.map(|(number, width)| format!("{}:{number}: {width} characters", document.path)).collect()
}

#[test]
fn links_lead_somewhere() {
    let dead: Vec<String> = Document::all().iter().flat_map(dead_links).collect();
    assert!(dead.is_empty(), "{dead:#?}");
}

fn dead_links(document: &Document) -> Vec<String> {
    let folder = Path::new(&document.path).parent().expect("a folder").to_owned();
    let is_dead = |target: &&str| {
        let (path, heading) = target.split_once('#').unwrap_or((target, ""));
        let path = if path.is_empty() { PathBuf::from(&document.path) } else { folder.join(path) };
        let has_heading = || {
            let text = std::fs::read_to_string(root().join(&path)).unwrap_or_default();
            let target = Document { path: String::new(), text };
            target.headings().iter().any(|it| anchor(it) == heading)
        };
        !root().join(&path).exists() || !heading.is_empty() && !has_heading()
    };
    document.links().into_iter().filter(is_dead).map(|target| format!("{}: {target}", document.path)).collect()
}

#[test]
fn contents_are_the_headings() {
    for document in Document::all() {
        let entries = document.prose().filter_map(|(_, line)| line.strip_prefix("- [")?.split_once("](#"));
        let contents: Vec<&str> = entries.map(|(title, _)| title).collect();
        assert!(contents.is_empty() || contents == document.headings(), "{}: {contents:#?}", document.path);
    }
}

/// Whether a quoted text is a path of the tree: patterns aren't.
fn is_path(text: &str, members: &[String]) -> bool {
    let is_ours = |top: &str| members.iter().any(|member| member == top) || ["deploy", "docs"].contains(&top);
    let is_pattern = text.contains(['*', ' ', '<']) || text.contains("NAME") || text.contains("NNNN");
    !is_pattern && text.split_once('/').is_some_and(|(top, _)| is_ours(top))
}

#[test]
fn paths_in_documents_exist() {
    let members = members();
    let missing = |document: &Document| -> Vec<String> {
        let paths = document.quoted().into_iter().filter(|text| is_path(text, &members));
        let missing = paths.filter(|path| !root().join(path).exists());
        missing.map(|path| format!("{}: {path}", document.path)).collect()
    };
    // What was there when something changed needn't be there today.
    let today = Document::all().into_iter().filter(|document| document.path != "CHANGELOG.md");
    let missing: Vec<String> = today.flat_map(|document| missing(&document)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

/// An invariant is worth the test that holds it.
#[test]
fn tests_that_invariants_name_exist() {
    let architecture = Document::read("ARCHITECTURE.md");
    let is_name = |text: &&str| {
        text.contains('_') && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let named: BTreeSet<&str> = quoted(architecture.section("Invariants")).into_iter().filter(is_name).collect();
    assert!(named.len() > 60, "only {named:?}");
    let sources = sources();
    let exists = |name: &&&str| sources.iter().any(|(_, text)| text.contains(&format!("fn {name}(")));
    let missing: Vec<_> = named.iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md, \"Invariants\", names tests that aren't there: {missing:#?}");
}

#[test]
fn the_documented_files_with_unsafe_are_those_that_may() {
    let packages = Document::read("docs/packages.md");
    let rows =
        packages.section(concat!("Files that may use uns", "afe")).lines().filter(|line| line.starts_with("| `"));
    let mut documented: Vec<&str> = rows.flat_map(|row| quoted(row.split('|').nth(1).unwrap_or_default())).collect();
    documented.sort_unstable();
    assert_eq!(documented, UNSAFE, "left: docs/packages.md; right: UNSAFE");
}

/// A decision's file: its number, a title that is one sentence, when it was made.
#[test]
fn decisions_are_numbered_titled_dated_and_in_the_index() {
    let index = Document::read("docs/decisions/README.md");
    let mut decisions = documents_in("docs/decisions");
    decisions.retain(|path| !path.ends_with("README.md"));
    decisions.sort();
    for (number, path) in (1..).zip(&decisions) {
        let name = path.rsplit('/').next().expect("a name");
        assert!(name.starts_with(&format!("{number:04}-")), "{path}: the next number is {number:04}");
        let decision = Document::read(path);
        let mut lines = decision.text.lines();
        let title = lines.next().and_then(|line| line.strip_prefix("# ")).unwrap_or_else(|| panic!("{path}: no title"));
        let dates = lines.nth(1).unwrap_or_default();
        assert!(dates.split(", ").all(is_date), "{path}: {dates:?} isn't a date");
        assert!(index.text.contains(&format!("\n- [{title}]({name})\n")), "{path}: not in the index by its title");
    }
    assert_eq!(index.links().len(), decisions.len(), "a line of the index for each decision");
}

fn is_date(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00"
}
