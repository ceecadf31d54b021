//! The catalogue of packets (`docs/packets.md`) and the tests that are named after its rows agree, both ways.

use super::sources;
use shunt_shmlayout::drop_reason::DropReason;
use shunt_tests::operator::root;
use std::collections::{BTreeMap, BTreeSet};

/// Where the catalogue stands.
const CATALOGUE: &str = "docs/packets.md";

/// Each row's number, and what its last column says.
fn rows() -> BTreeMap<u32, String> {
    let text = std::fs::read_to_string(root().join(CATALOGUE)).expect(CATALOGUE);
    text.lines().filter_map(row).collect()
}

/// The row that a line of a table is: `| 7 | what comes | what must happen | where | state |`.
fn row(line: &str) -> Option<(u32, String)> {
    let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
    let number = cells.first()?.parse().ok()?;
    assert_eq!(cells.len(), 5, "{CATALOGUE}: row {number} has other columns than the table");
    Some((number, cells[4].to_owned()))
}

/// The tests that a row's state names; none for a row that isn't tested.
fn named(number: u32, state: &str) -> BTreeSet<String> {
    let Some(tests) = state.strip_prefix("tested: ") else {
        let has_reason = ["later: ", "otherwise: "].iter().any(|word| state.starts_with(word));
        assert!(has_reason, "{CATALOGUE}: row {number} is {state:?}; say \"tested: \", \"later: \" or \"otherwise: \"");
        return BTreeSet::new();
    };
    tests.split(", ").map(|test| test.trim_matches('`').to_owned()).collect()
}

/// The row that a test is named after: `row_7_eth_loop` after 7.
fn row_of(test: &str) -> Option<u32> {
    test.strip_prefix("row_")?.split('_').next()?.parse().ok()
}

/// Every test that is named after a row, by its row.
fn tests() -> BTreeMap<u32, BTreeSet<String>> {
    let mut tests: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for (_, text) in sources() {
        let functions = text.lines().filter_map(|line| line.trim_start().strip_prefix("fn "));
        let names = functions.filter_map(|function| function.split('(').next());
        for (name, row) in names.filter_map(|name| Some((name, row_of(name)?))) {
            tests.entry(row).or_default().insert(name.to_owned());
        }
    }
    tests
}

#[test]
fn every_tested_row_of_the_catalogue_has_its_tests_and_every_row_test_its_row() {
    let named: BTreeMap<u32, BTreeSet<String>> = rows()
        .iter()
        .map(|(number, state)| (*number, named(*number, state)))
        .filter(|(_, tests)| !tests.is_empty())
        .collect();
    assert!(named.len() > 50, "only {} rows are tested", named.len());
    let found = tests();
    let without_row: Vec<_> = found.iter().filter(|(row, tests)| named.get(row) != Some(tests)).collect();
    assert!(
        without_row.is_empty(),
        "tests that {CATALOGUE} names otherwise in their row, or not at all: {without_row:#?}"
    );
    let without_test: Vec<_> = named.iter().filter(|(row, tests)| found.get(row) != Some(tests)).collect();
    assert!(without_test.is_empty(), "{CATALOGUE} names tests that there aren't: {without_test:#?}");
}

#[test]
fn the_catalogue_s_rows_are_numbered_without_a_gap() {
    let text = std::fs::read_to_string(root().join(CATALOGUE)).expect(CATALOGUE);
    let mut numbers: Vec<u32> = text.lines().filter_map(row).map(|(number, _)| number).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u32), "{CATALOGUE}: gap or repetition in {numbers:?}");
}

#[test]
fn every_error_of_the_parser_has_its_row() {
    let mapped = std::fs::read_to_string(root().join("switcher/src/filter/parse_error.rs")).expect("the mapping");
    let catalogue = std::fs::read_to_string(root().join(CATALOGUE)).expect(CATALOGUE);
    let is_the_parsers = |reason: &&&DropReason| mapped.contains(&format!("=> DropReason::{reason:?},"));
    let names: Vec<&str> =
        DropReason::ALL.iter().filter(|reason| is_the_parsers(&reason)).map(|reason| reason.name()).collect();
    assert!(names.len() > 30, "only {names:?}");
    let without_row: Vec<_> = names.iter().filter(|name| !catalogue.contains(&format!("`{name}`"))).collect();
    assert!(without_row.is_empty(), "drop reasons of the parser without a row in {CATALOGUE}: {without_row:?}");
}

#[test]
fn a_row_and_a_test_s_row_are_read() {
    assert_eq!(row("| 7 | a | b | | tested: `row_7_x` |"), Some((7, "tested: `row_7_x`".to_owned())));
    assert_eq!((row("| row | what comes |"), row("|---|---|")), (None, None));
    assert_eq!((row_of("row_12_vlan_0"), row_of("arrow_104"), row_of("row_by_row")), (Some(12), None, None));
    assert_eq!(named(7, "tested: `row_7_x`, `row_7_y`").len(), 2);
}
