//! Finds the first occurrence of a duplicate key or header, and what was probably meant: the TOML parser reports "duplicate
//! key" for all of them, even for a repeatable table in single brackets.

/// Tables that may be repeated.
const REPEATED: [&str; 6] = ["interface", "service", "service.backend", "service.rule", "agent", "backend"];

/// The message instead of "duplicate key" in `line` (from 1), and the remedy; `None` if the first occurrence is not found.
pub fn explain(text: &str, line: usize) -> Option<(String, String)> {
    let lines: Vec<&str> = text.lines().take(line).map(str::trim).collect();
    let (last, before) = lines.split_last()?;
    match header(last) {
        Some(name) => of_header(name, before),
        None => of_key(key(last)?, before),
    }
}

fn of_header(name: &str, before: &[&str]) -> Option<(String, String)> {
    let at = before.iter().position(|line| header(line) == Some(name))?;
    let what = format!("[{name}] stands in line {} already", at + 1);
    let mend = match REPEATED.contains(&name) {
        true => format!("write [[{name}]], with two brackets, above each of them"),
        false => "write all its keys under one of the two".to_owned(),
    };
    Some((what, mend))
}

fn of_key(name: &str, before: &[&str]) -> Option<(String, String)> {
    let table = before.iter().rposition(|line| header(line).is_some()).map_or(0, |header| header + 1);
    let at = table + before[table..].iter().position(|line| key(line) == Some(name))?;
    Some((format!("{name} stands in line {} already", at + 1), "remove one of the two".to_owned()))
}

/// The name in `[name]` or `[[name]]`.
fn header(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix('[')?.trim_start_matches('[').split_once(']')?;
    Some(name.trim())
}

fn key(line: &str) -> Option<&str> {
    let (name, _) = line.split_once('=')?;
    Some(name.trim()).filter(|name| !name.is_empty() && !name.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_twice_is_told_with_its_first_line() {
        for (text, said, mend) in [
            ("[service]\na = 1\n[[service]]\n", "[service] stands in line 1 already", "write [[service]], with two"),
            ("[[interface]]\n[interface]\n", "[interface] stands in line 1", "write [[interface]], with two"),
            ("[limits]\nring = 64\n [limits]\n", "[limits] stands in line 1", "write all its keys under one"),
            ("name = 1\n[[agent]]\nname = 2\n# c\nname = 3\n", "name stands in line 3 already", "remove one"),
        ] {
            let (what, what_to_do) = explain(text, text.lines().count()).unwrap();
            assert!(what.starts_with(said) && what_to_do.starts_with(mend), "{what}; {what_to_do}");
        }
        for (text, line) in [("", 1), ("a = {b = 1, b = 2}\n", 1), ("[a]\n", 7)] {
            assert_eq!(explain(text, line), None, "{text}");
        }
    }
}
