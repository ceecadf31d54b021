//! What is refused before a field is looked at: files that aren't, text that isn't TOML.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use crate::common::{VALID, refusals};
use nix::sys::stat::Mode;
use shunt_config::Config;

fn refusal(path: &Path) -> String {
    Config::load(path).expect_err("refused").to_string().replace(&path.display().to_string(), "FILE")
}

fn refusal_of_content(content: &[u8]) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("shunt.toml");
    std::fs::write(&path, content).expect("written");
    refusal(&path)
}

#[test]
fn a_good_file_is_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("shunt.toml");
    std::fs::write(&path, VALID).expect("written");
    assert_eq!(Config::load(&path).expect("good"), Config::parse(VALID, &path.display().to_string()).expect("good"));
}

#[test]
fn an_empty_file_is_said_to_be_empty() {
    let sentence = "FILE:1: is empty; deploy/examples shows what to write";
    assert_eq!(refusal_of_content(b""), sentence);
    assert_eq!(refusal_of_content(b" \n\t\n"), sentence);
}

#[test]
fn a_missing_file_is_said_to_be_missing() {
    let directory = tempfile::tempdir().expect("a directory");
    let expected = "FILE: cannot be read: No such file or directory (os error 2); check the path and its permissions";
    assert_eq!(refusal(&directory.path().join("none.toml")), expected);
}

#[test]
fn what_is_not_a_regular_file_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let ending = "not a regular file; give the path of the TOML file itself";
    assert_eq!(refusal(directory.path()), format!("FILE: is a directory, {ending}"));
    assert_eq!(refusal(Path::new("/dev/null")), format!("FILE: is a device, {ending}"));
}

#[test]
fn a_fifo_without_a_writer_is_refused_and_not_waited_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("fifo");
    nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).expect("a FIFO");
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(refusal(&path)));
    let sentence = receiver.recv_timeout(Duration::from_secs(60)).expect("no waiting for a writer");
    assert_eq!(sentence, "FILE: is a FIFO, not a regular file; give the path of the TOML file itself");
}

#[test]
fn a_huge_file_is_refused_and_one_of_just_the_limit_read() {
    let mut content = VALID.as_bytes().to_vec();
    content.resize(4 << 20, b'\n');
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("shunt.toml");
    std::fs::write(&path, &content).expect("written");
    assert!(Config::load(&path).is_ok());
    content.push(b'\n');
    let expected =
        "FILE: is larger than 4194304 bytes, which no configuration needs; check that the path is the right one";
    assert_eq!(refusal_of_content(&content), expected);
}

#[test]
fn bytes_that_are_not_text_are_refused_with_their_line() {
    let expected = "FILE:3: is not UTF-8 text; save the file as UTF-8, or check that the path is the right one";
    assert_eq!(refusal_of_content(b"# a\n# b\n# \xff\n"), expected);
}

#[test]
fn half_a_file_is_refused_with_the_line_where_it_breaks_off() {
    let cut = &VALID[..VALID.find("18.0.100:80").expect("an address")];
    let expected = "shunt.toml:19: is not TOML: invalid basic string, expected `\"` (column 16); mend the line, or save the file whole";
    assert_eq!(refusals(cut), [expected]);
    let twice = "user = \"a\"\nuser = \"b\"\n";
    let expected = "shunt.toml:2: is not TOML: user stands in line 1 already (column 1); remove one of the two";
    assert_eq!(refusals(twice), [expected]);
    let single = format!("[service]\ndrain_timeout_s = 5\n{VALID}");
    let [found] = &refusals(&single)[..] else { panic!("one refusal") };
    assert!(found.contains("[service] stands in line 1 already"), "{found}");
    assert!(found.contains("write [[service]], with two brackets, above each of them"), "{found}");
}

#[test]
fn text_nested_without_end_is_refused_before_the_stack_ends() {
    let nested = ["[", "{a="].map(|piece| format!("a={}", piece.repeat(100_000)));
    let dotted = format!("a{}=1", ".a".repeat(100_000));
    for text in [&nested[0], &nested[1], &dotted] {
        let found = refusals(text);
        assert!(found[0].starts_with("shunt.toml:1: is not TOML: "), "{found:?}");
    }
}
