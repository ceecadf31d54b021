//! Suggests the known word that a mistyped one most likely stands for.

/// Minimum length of a word to match as a prefix.
const SHORTEST_BEGINNING: usize = 4;

/// The first of `known` that is a prefix of `word`, has it as a prefix, or is within a small edit distance.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let begins = |a: &str, b: &str| a.len() >= SHORTEST_BEGINNING && b.starts_with(a);
    let most = (word.len() / 3).min(2);
    let is_near = |other: &&&str| begins(word, other) || begins(other, word) || distance(word, other) <= most;
    known.iter().find(is_near).copied()
}

/// Edit distance (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_word_is_found_and_another_one_is_not() {
        let keys = ["name", "address", "weight", "interval_ms", "interface", "backend"];
        for (word, meant) in [
            ("adress", Some("address")),
            ("weigth", Some("weight")),
            ("interval", Some("interval_ms")),
            ("interfaces", Some("interface")),
            ("backends", Some("backend")),
            ("host", None),
            ("nam", Some("name")),
            ("", None),
            ("colour", None),
        ] {
            assert_eq!(nearest(word, &keys), meant, "{word}");
        }
        assert_eq!((distance("kitten", "sitting"), distance("", "ab"), distance("ab", "")), (3, 2, 2));
    }
}
