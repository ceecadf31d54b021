//! What matters about the source itself, checked by a test: lengths of files, where `unsafe` may stand, counters that
//! nobody increments, examples and documents that still agree with the tree.

use shunt_shmlayout::drop_reason::DropReason;
use shunt_shmlayout::notice::Notice;
use shunt_tests::operator::root;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[path = "tidy/catalogue.rs"]
mod catalogue;
#[path = "tidy/documents.rs"]
mod documents;

/// Lines of a file before its tests.
const LONGEST: usize = 400;

/// Characters of a line that is a comment; the formatter leaves those alone.
const WIDEST_COMMENT: usize = 132;

/// Where `unsafe` may stand: files that own a system interface or a mapping.
const UNSAFE: &[&str] = &[
    "cli/src/doctor/system.rs",
    "control/src/packet_socket.rs",
    "control/src/routing_daemon/netlink.rs",
    "keeper/src/host/tun.rs",
    "process/src/scheduling.rs",
    "protocol/src/handover.rs",
    "protocol/src/socket.rs",
    "shmlayout/src/map.rs",
    "switcher/src/filter/prefetch.rs",
    "switcher/src/port/af_packet/ring.rs",
    "switcher/src/port/af_xdp/ring.rs",
    "switcher/src/port/pool.rs",
    "tests/src/bin/generate-udp/bpf.rs",
];

/// Counters that are written by a function that is given them.
const WRITTEN_BY_REFERENCE: &[&str] = &["answered_ms", "device_name", "in_flight", "moved", "reports", "reset"];

/// Of each crate, the crates of the workspace that it may use. Processes are used by nobody: they are no library.
const USES: &[(&str, &[&str])] = &[
    ("address", &[]),
    ("packet", &["address"]),
    ("shmlayout", &["address"]),
    ("process", &[]),
    ("netlink", &[]),
    ("report", &[]),
    ("config", &["process", "protocol"]),
    ("instances", &["config", "process", "routing", "shmlayout"]),
    ("protocol", &[]),
    ("routing", &["netlink"]),
    ("publish", &["config", "instances", "report", "routing", "shmlayout"]),
    ("keeper", &["config", "instances", "netlink", "process", "protocol", "shmlayout"]),
    ("switcher", &["packet", "process", "protocol", "shmlayout"]),
    (
        "control",
        &["config", "instances", "netlink", "process", "protocol", "publish", "report", "routing", "shmlayout"],
    ),
    ("ifdaemon", &["netlink", "packet", "process", "protocol", "shmlayout"]),
    ("agent", &["config", "netlink", "process", "report"]),
    ("cli", &["config", "instances", "netlink", "process", "protocol", "publish", "routing", "shmlayout"]),
];

/// Crates that are processes.
const PROCESSES: &[&str] = &["agent", "cli", "control", "ifdaemon", "keeper", "switcher"];

/// Packages of others that only these crates may use.
const RESERVED: &[(&str, &[&str])] = &[("aya", &["keeper"]), ("tokio", &["control"]), ("toml", &["agent", "config"])];

/// Every Rust file of the workspace, with its path from the top.
fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    for member in members() {
        collect(&root().join(member), &mut sources);
    }
    assert!(sources.len() > 100, "only {} Rust files found", sources.len());
    sources
}

/// The workspace's folders.
fn members() -> Vec<String> {
    let workspace = manifest("Cargo.toml");
    let members = workspace["workspace"]["members"].as_array().expect("members");
    members.iter().map(|member| member.as_str().expect("a folder").to_owned()).collect()
}

fn manifest(path: &str) -> toml::Table {
    std::fs::read_to_string(root().join(path)).expect("a manifest").parse().expect("TOML")
}

/// What a crate uses outside of its tests: build dependencies and those of single targets included.
fn dependencies(member: &str) -> BTreeSet<String> {
    let manifest = manifest(&format!("{member}/Cargo.toml"));
    let targets = manifest.get("target").and_then(|targets| targets.as_table());
    let targets = targets.into_iter().flatten().filter_map(|(_, target)| target.as_table());
    let tables = std::iter::once(&manifest).chain(targets);
    let kinds = tables.flat_map(|table| ["dependencies", "build-dependencies"].map(|kind| table.get(kind)));
    let names = kinds.flatten().filter_map(|kind| kind.as_table()).flat_map(|kind| kind.keys());
    names.cloned().collect()
}

/// Those of them that are the workspace's.
fn uses(member: &str) -> BTreeSet<String> {
    dependencies(member).iter().filter_map(|name| name.strip_prefix("shunt-")).map(str::to_owned).collect()
}

fn collect(folder: &Path, sources: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("a readable folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() && !entry.ends_with("target") {
            collect(&entry, sources);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&entry).expect("a readable source");
            sources.push((relative(&entry), text));
        }
    }
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("below the top").to_string_lossy().into_owned()
}

/// A file without its tests: without each item that is marked as one, up to the brace that ends it. The formatter puts
/// that brace under the mark.
fn code(text: &str) -> String {
    let (mut kept, mut end) = (String::new(), None);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let indentation = &line[..line.len() - line.trim_start().len()];
        match &end {
            Some(brace) if line == brace => end = None,
            Some(_) => {}
            None if line.trim_start() == "#[cfg(test)]" => {
                let is_block = lines.by_ref().find(|line| !line.trim_start().starts_with("#[")).is_some_and(is_open);
                end = is_block.then(|| format!("{indentation}}}"));
            }
            None => kept.extend([line, "\n"]),
        }
    }
    kept
}

/// Whether an item goes on after its first line.
fn is_open(line: &str) -> bool {
    !line.ends_with([';', ',', '}'])
}

#[test]
fn code_is_what_is_left_without_each_test() {
    let text = "a\n#[cfg(test)]\nmod one;\nb\n    #[cfg(test)]\n    fn two() {\n        c\n    }\nd\n\
        #[cfg(test)]\n#[path = \"x\"]\nmod three {\n    e\n}\nf\n";
    assert_eq!(code(text), "a\nb\nd\nf\n");
}

/// Strings can still mislead: good enough for words that stand in none.
fn uncommented(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

#[test]
fn no_file_is_longer_than_a_reader_has_patience_for() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|(path, _)| !is_test(path))
        .map(|(path, text)| (path, code(text).lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(path, lines)| format!("{path}: {lines} lines before its tests, {LONGEST} at the most"))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn unsafe_stands_only_where_it_may() {
    let word = concat!("uns", "afe");
    let is_block = |line: &str| {
        let mut words = uncommented(line).split(|c: char| !c.is_alphanumeric() && c != '_');
        words.any(|found| found == word)
    };
    let found: BTreeSet<String> =
        sources().into_iter().filter(|(_, text)| text.lines().any(is_block)).map(|(path, _)| path).collect();
    let allowed: BTreeSet<String> = UNSAFE.iter().map(|path| path.to_string()).collect();
    assert_eq!(found, allowed, "left: files that have it; right: files that may");
}

/// What a turn of control is given instead.
const OUTSIDE: &[&str] = &["Instant", "SystemTime", "Stopwatch", "Now::read", "tokio", "std::fs", "std::process"];

#[test]
fn control_decides_without_clocks_tasks_and_files() {
    let decides = |path: &str| path.starts_with("control/src/control/") && !is_test(path);
    let sources: Vec<_> = sources().into_iter().filter(|(path, _)| decides(path)).collect();
    assert!(sources.len() > 10, "only {} files", sources.len());
    for (path, text) in sources {
        let code: String = code(&text).lines().map(uncommented).collect();
        let found: Vec<_> = OUTSIDE.iter().filter(|word| code.contains(**word)).collect();
        assert!(found.is_empty(), "{path} has {found:?}: give it to the turn (control/src/control/outside.rs)");
    }
}

/// Where reasons are given: not where the parser's are translated, which names them all.
fn is_counting(path: &str) -> bool {
    (path.starts_with("switcher/src/") || path.starts_with("packet/src/")) && path != PARSE_ERROR
}

/// Where the parser's errors become drop reasons.
const PARSE_ERROR: &str = "switcher/src/filter/parse_error.rs";

#[test]
fn an_error_of_the_parser_has_the_name_of_its_drop_reason() {
    let text = std::fs::read_to_string(root().join(PARSE_ERROR)).expect("the translation");
    let arms: Vec<_> = text.lines().filter_map(|line| line.trim().strip_suffix(',')?.split_once(" => ")).collect();
    assert!(arms.len() > 30, "only {arms:?}");
    for (error, reason) in arms {
        assert_eq!(error.strip_prefix("ParseError::"), reason.strip_prefix("DropReason::"));
    }
}

#[test]
fn crates_depend_as_the_picture_says() {
    let found: Vec<(String, BTreeSet<String>)> = members()
        .into_iter()
        .filter(|member| member != "tests")
        .map(|member| (member.clone(), uses(&member)))
        .collect();
    let drawn: Vec<(String, BTreeSet<String>)> =
        USES.iter().map(|(name, uses)| (name.to_string(), set(uses))).collect();
    assert_eq!(sorted(found), sorted(drawn.clone()), "left: the Cargo.toml files; right: what is allowed");
    assert_eq!(sorted(picture()), sorted(drawn), "left: ARCHITECTURE.md; right: what is allowed");
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| name.to_string()).collect()
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items
}

/// The picture in ARCHITECTURE.md, "Crates": ` name -> used used   what it is`.
fn picture() -> Vec<(String, BTreeSet<String>)> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let section = text.split("\n## ").find(|section| section.starts_with("Crates")).expect("a section \"Crates\"");
    let lines = section.split("```").nth(1).expect("a picture").lines().filter_map(|line| line.strip_prefix(' '));
    let read = |line: &str| {
        let (name, rest) = line.split_once(' ')?;
        let used = rest.trim_start().strip_prefix("-> ").map_or("", |used| used.split("   ").next().unwrap_or(used));
        Some((name.to_owned(), set(&used.split_whitespace().collect::<Vec<_>>())))
    };
    lines.filter_map(read).collect()
}

#[test]
fn no_crate_uses_a_process_and_reserved_packages_stay_where_they_are() {
    for member in members().iter().filter(|member| *member != "tests") {
        let processes: Vec<_> = uses(member).into_iter().filter(|used| PROCESSES.contains(&&**used)).collect();
        assert!(processes.is_empty(), "{member} uses processes: {processes:?}");
        for (package, owners) in RESERVED {
            let may = owners.contains(&&**member);
            assert!(may || !dependencies(member).contains(*package), "{member} uses {package}");
        }
    }
}

/// Not by way of another crate either.
#[test]
fn processes_that_see_packets_link_no_parser_of_the_configuration() {
    for process in ["switcher", "ifdaemon"] {
        let mut linked = BTreeSet::from([process.to_owned()]);
        loop {
            let more: BTreeSet<String> = linked.iter().flat_map(|member| uses(member)).collect();
            if more.is_subset(&linked) {
                break;
            }
            linked.extend(more);
        }
        assert!(!linked.contains("config"), "{process} links {linked:?}");
    }
}

#[test]
fn every_drop_reason_is_given_somewhere() {
    let sources = sources();
    let is_given = |reason: &DropReason| {
        let name = format!("{reason:?}");
        let places = sources.iter().filter(|(path, _)| is_counting(path) && !is_test(path));
        places.map(|(_, text)| code(text)).any(|code| code.lines().any(|line| names(uncommented(line), &name)))
    };
    let never: Vec<_> = DropReason::ALL.iter().filter(|reason| !is_given(reason)).collect();
    assert!(never.is_empty(), "counters that nobody increments: {never:?}");
}

#[test]
fn every_notice_is_given_somewhere() {
    let sources = sources();
    let is_given = |notice: &Notice| {
        let name = format!("{notice:?}");
        let places = sources.iter().filter(|(path, _)| is_counting(path) && !is_test(path));
        places.map(|(_, text)| code(text)).any(|code| code.lines().any(|line| names(uncommented(line), &name)))
    };
    let never: Vec<_> = Notice::ALL.iter().filter(|notice| !is_given(notice)).collect();
    assert!(never.is_empty(), "counters that nobody increments: {never:?}");
}

/// A counter in shared memory that is shown and never written would say 0 for ever.
#[test]
fn every_counter_in_shared_memory_is_written_somewhere() {
    let sources = sources();
    let code_of = |path: &str, text: &str| if is_test(path) { String::new() } else { squeezed(&code(text)) };
    let all: String = sources.iter().map(|(path, text)| code_of(path, text)).collect();
    let regions = sources.iter().filter(|(path, _)| path.starts_with("shmlayout/src/") && !is_test(path));
    let regions: String = regions.map(|(_, text)| code(text)).collect();
    let fields: Vec<&str> = regions.lines().filter_map(counter_field).collect();
    assert!(fields.len() > 50, "only {fields:?}");
    let by_reference = |field: &&str| WRITTEN_BY_REFERENCE.contains(field);
    let never: Vec<_> = fields.into_iter().filter(|field| !by_reference(field) && !is_written(&all, field)).collect();
    assert!(never.is_empty(), "counters that nobody writes: {never:?}");
}

/// The name of a field that is a counter or a table of some.
fn counter_field(line: &str) -> Option<&str> {
    let (name, kind) = line.trim().strip_prefix("pub ")?.strip_suffix(',')?.split_once(": ")?;
    let kind = kind.trim_start_matches("&'static ").trim_start_matches('[');
    let access = kind.strip_prefix("Counter<")?.split_once('>')?.0;
    (access.len() == 1).then_some(name) // the parameter of the structure
}

/// Without white space, so that a chain of calls over several lines is found, too.
fn squeezed(text: &str) -> String {
    text.lines().map(uncommented).collect::<String>().split_whitespace().collect()
}

/// Whether a field, or an element of it, is written.
fn is_written(code: &str, field: &str) -> bool {
    let dotted = format!(".{field}");
    code.match_indices(&dotted).any(|(at, _)| {
        let rest = &code[at + dotted.len()..];
        let rest = if rest.starts_with('[') { rest.split_once(']').map_or(rest, |(_, after)| after) } else { rest };
        [".add(", ".set(", ".subtract("].iter().any(|write| rest.starts_with(write))
    })
}

fn is_test(path: &str) -> bool {
    ["/tests/", "tests.rs", "testing.rs", "/benches/"].iter().any(|part| path.contains(part))
        || path.starts_with("tests/")
}

fn names(line: &str, reason: &str) -> bool {
    line.match_indices(reason).any(|(at, _)| {
        let ends = !line[at + reason.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
        ends && line[..at].ends_with("::")
    })
}

/// These macros panic where nothing can be written; `say` and `output::write` don't.
#[test]
fn no_program_prints_by_a_macro_that_panics() {
    let is_print = |line: &str| ["print!(", "println!("].iter().any(|print| uncommented(line).contains(print));
    let sources = sources();
    let programs = sources.iter().filter(|(path, _)| !is_test(path) && !path.ends_with("build.rs"));
    let found: Vec<&String> =
        programs.filter(|(_, text)| code(text).lines().any(is_print)).map(|(path, _)| path).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn comments_are_not_too_wide() {
    let wide: Vec<String> = sources()
        .iter()
        .flat_map(|(path, text)| text.lines().enumerate().map(move |(number, line)| (path, number + 1, line)))
        .filter(|(_, _, line)| line.trim_start().starts_with("//") && line.chars().count() > WIDEST_COMMENT)
        .map(|(path, number, line)| format!("{path}:{number}: {} characters", line.chars().count()))
        .collect();
    assert!(wide.is_empty(), "wider than {WIDEST_COMMENT}: {wide:#?}");
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("FIX", "ME"), concat!("TO", "DO")];
    let left: Vec<String> = sources()
        .iter()
        .flat_map(|(path, text)| text.lines().enumerate().map(move |(number, line)| (path, number + 1, line)))
        .filter(|(_, _, line)| marks.iter().any(|mark| line.contains(mark)))
        .map(|(path, number, line)| format!("{path}:{number}: {}", line.trim()))
        .collect();
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn every_example_configuration_is_accepted() {
    let examples: Vec<PathBuf> = std::fs::read_dir(root().join("deploy/examples"))
        .expect("the examples")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        // The agent's own, which its tests read.
        .filter(|path| !path.ends_with("agent.toml"))
        .collect();
    assert!(examples.len() >= 3, "only {examples:?}");
    for example in examples {
        // What `shunt check` does.
        let checked = shunt_config::Config::load(&example);
        assert!(checked.is_ok(), "{}", checked.err().map(|error| error.to_string()).unwrap_or_default());
    }
}

#[test]
fn the_architecture_s_folders_exist() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let map = text.split("\n## ").find(|section| section.starts_with("Crates")).expect("a section \"Crates\"");
    let missing: Vec<&str> = folders(map).into_iter().filter(|folder| !root().join(folder).is_dir()).collect();
    assert!(!folders(map).is_empty(), "the section \"Crates\" names none");
    assert!(missing.is_empty(), "ARCHITECTURE.md names folders that aren't there: {missing:?}");
}

/// Words that end in a slash.
fn folders(map: &str) -> Vec<&str> {
    let words = map.split(|c: char| c.is_whitespace() || "`|,()".contains(c));
    words.filter(|word| word.len() > 1 && word.ends_with('/') && !word.contains(':')).collect()
}
