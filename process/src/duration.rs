//! Durations formatted for operators.

/// Formats a duration: `350ms`, `4.2s`, `3m05s`, `2h07m`, `3d04h`.
pub fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => format!("{ms}ms"),
        1..60 => format!("{s}.{}s", ms % 1000 / 100),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_change_at_their_limits() {
        let shown = [999, 1000, 59_999, 60_000, 3_599_999, 3_600_000, 90_000_000].map(duration);
        assert_eq!(shown, ["999ms", "1.0s", "59.9s", "1m00s", "59m59s", "1h00m", "1d01h"]);
    }
}
