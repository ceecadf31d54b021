//! Formats numbers for operators; JSON has them unformatted.

pub use shunt_process::duration;

/// A number of bytes in decimal units: `812 B`, `1.5 kB`, `20.0 GB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [(&str, u64); 5] = [
        ("PB", 1_000_000_000_000_000),
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1000),
    ];
    match UNITS.into_iter().find(|(_, size)| n >= *size) {
        Some((unit, size)) => format!("{}.{} {unit}", n / size, n % size / (size / 10)),
        None => format!("{n} B"),
    }
}

/// The value, or a dash if there is none.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_change_at_their_limits() {
        let shown = [999, 1000, 1999, 20_000_000_000].map(bytes);
        assert_eq!(shown, ["999 B", "1.0 kB", "1.9 kB", "20.0 GB"]);
    }
}
