//! Which known word a mistyped one was most likely meant to be.

/// Letters of the shortest word that may be the beginning of the one that was meant.
const SHORTEST_BEGINNING: usize = 4;

/// The first of `known` that `word` begins, that begins `word`, or that differs from it by few letters.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let begins = |a: &str, b: &str| a.len() >= SHORTEST_BEGINNING && b.starts_with(a);
    let most = (word.len() / 3).min(2);
    let is_near = |other: &&&str| begins(word, other) || begins(other, word) || distance(word, other) <= most;
    known.iter().find(is_near).copied()
}

/// How many letters must be put in, taken out or replaced to make one word of the other (Levenshtein).
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
