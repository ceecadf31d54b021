//! No text makes the parser panic, and every refusal names a line that the text has.

use crate::common::VALID;
use proptest::prelude::*;
use shunt_config::{Config, ConfigError};

fn assert_refusals_are_in_the_text(text: &str) {
    let lines = 1 + text.matches('\n').count();
    match Config::parse(text, "shunt.toml") {
        Ok(_) | Err(ConfigError::Empty { .. }) => {}
        Err(ConfigError::Syntax { line, .. }) => {
            assert!((1..=lines).contains(&line), "line {line} of {lines}")
        }
        Err(ConfigError::Refused(problems)) => {
            assert!(!problems.is_empty(), "refused without a reason");
            for problem in problems {
                assert!((1..=lines).contains(&problem.line), "{problem}, but {lines} lines");
                assert!(!problem.to_string().contains('\n'), "{problem} breaks its line");
            }
        }
        Err(other) => panic!("{other} about a text"),
    }
}

/// A word that a configuration may have somewhere, mostly where it doesn't belong.
fn value() -> impl Strategy<Value = String> {
    const FIXED: [&str; 19] = [
        "0",
        "-1",
        "65536",
        "99999999999999999999",
        "0x10",
        "1.5",
        "true",
        "[]",
        "{}",
        "[[]]",
        "\"\"",
        "\"tcp\"",
        "\"udp\"",
        "\"dsr\"",
        "\"http\"",
        "\"b1\"",
        "\"198.18.0.100:80\"",
        "\"198.18.1.12:8080\"",
        "1979-05-27",
    ];
    prop_oneof![prop::sample::select(&FIXED[..]).prop_map(str::to_owned), ".{0,12}"]
}

proptest! {
    #[test]
    fn any_text(text in "(?s).{0,200}") {
        assert_refusals_are_in_the_text(&text);
    }

    #[test]
    fn text_of_toml_tokens(tokens in prop::collection::vec(r#"\[|\]|\{|\}|=|\.|,|"|'|#|\n|name|service|backend|cpus|-?[0-9]{1,12}"#, 0..60)) {
        assert_refusals_are_in_the_text(&tokens.concat());
    }

    #[test]
    fn valid_text_cut_and_overwritten(at in 0..VALID.len(), length in 0..40_usize, middle in "(?s).{0,8}") {
        let rest = VALID.get(at + length..).unwrap_or("");
        assert_refusals_are_in_the_text(&format!("{}{middle}{rest}", &VALID[..at]));
        assert_refusals_are_in_the_text(&VALID[..at]);
    }

    #[test]
    fn valid_text_with_other_values(changes in prop::collection::vec((any::<prop::sample::Index>(), value()), 1..6)) {
        let mut lines: Vec<String> = VALID.lines().map(str::to_owned).collect();
        for (index, value) in changes {
            let line = index.get_mut(&mut lines);
            if let Some((key, _)) = line.split_once(" = ") {
                *line = format!("{key} = {value}");
            }
        }
        assert_refusals_are_in_the_text(&lines.join("\n"));
    }

    #[test]
    fn valid_text_with_lines_moved(order in Just(VALID.lines().collect::<Vec<_>>()).prop_shuffle()) {
        assert_refusals_are_in_the_text(&order.join("\n"));
    }
}
