//! An antagonist: another tenant of a server's machine that slows it down for a while, again and again.

use anyhow::{Context, Result, ensure};
use std::str::FromStr;

/// A square wave over service times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wave {
    /// By how much service takes longer while it is on.
    pub factor: f64,
    /// From one start to the next, in milliseconds.
    pub period_ms: u64,
    /// How long it is on.
    pub on_ms: u64,
    /// When in the period it starts.
    pub phase_ms: u64,
}

impl Wave {
    /// The factor at a time.
    pub fn factor_at(&self, time_us: u64) -> f64 {
        let since_start_ms = (time_us / 1000 + self.period_ms - self.phase_ms) % self.period_ms;
        if since_start_ms < self.on_ms { self.factor } else { 1.0 }
    }
}

impl FromStr for Wave {
    type Err = anyhow::Error;

    /// `FACTOR:PERIOD_MS:ON_MS:PHASE_MS`
    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let [factor, period, on, phase] = parts[..] else {
            anyhow::bail!("'{text}' is not FACTOR:PERIOD_MS:ON_MS:PHASE_MS");
        };
        let number = |text: &str| text.parse::<u64>().with_context(|| format!("'{text}' is not a number"));
        let factor: f64 = factor.parse().with_context(|| format!("'{factor}' is not a factor"))?;
        let wave = Self { factor, period_ms: number(period)?, on_ms: number(on)?, phase_ms: number(phase)? };
        ensure!(factor.is_finite() && factor > 0.0, "a factor is above 0, not {factor}");
        ensure!(
            wave.phase_ms < wave.period_ms && wave.on_ms <= wave.period_ms,
            "the phase is less than the period, and the wave on for the period at most: '{text}'"
        );
        Ok(wave)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_on_from_its_phase_for_its_time_also_over_the_period_s_end() {
        let wave: Wave = "4:1000:300:800".parse().unwrap();
        let at = |time_ms: u64| wave.factor_at(time_ms * 1000);
        assert_eq!([at(0), at(99), at(100), at(799), at(800), at(1050), at(1100)], [4.0, 4.0, 1.0, 1.0, 4.0, 4.0, 1.0]);
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in ["", "4", "4:0:0:0", "4:100:10:100", "4:100:101:0", "0:100:10:0", "inf:100:10:0", "4:100:10:x"] {
            assert!(wrong.parse::<Wave>().is_err(), "{wrong}");
        }
    }
}
