//! How much work a request is: a distribution and its mean, as an option of the command line.

use super::random::Random;
use anyhow::{Context, Result, bail};
use std::str::FromStr;

/// The shape of service times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Demand {
    /// Most are short, a few take several times the mean.
    Exponential,
    /// Heavier tail; the number is the deviation of the logarithm.
    LogNormal(f64),
}

impl Demand {
    /// One service time in microseconds.
    pub fn draw(self, random: &mut Random, mean_us: f64) -> u64 {
        let drawn = match self {
            Self::Exponential => random.exponential(mean_us),
            Self::LogNormal(sigma) => random.log_normal(mean_us, sigma),
        };
        drawn as u64
    }
}

impl FromStr for Demand {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "exponential" => Ok(Self::Exponential),
            Some(("log-normal", sigma)) => {
                let sigma: f64 = sigma.parse().with_context(|| format!("'{sigma}' is not a deviation such as 1.0"))?;
                anyhow::ensure!((0.0..=3.0).contains(&sigma), "a deviation is from 0 to 3, not {sigma}");
                Ok(Self::LogNormal(sigma))
            }
            _ => bail!("'{text}' is neither 'exponential' nor 'log-normal:SIGMA'"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_others_refused() {
        assert_eq!("exponential".parse::<Demand>().unwrap(), Demand::Exponential);
        assert_eq!("log-normal:0.5".parse::<Demand>().unwrap(), Demand::LogNormal(0.5));
        for wrong in ["", "normal", "log-normal", "log-normal:", "log-normal:-1", "log-normal:NaN", "exponential:2"] {
            assert!(wrong.parse::<Demand>().is_err(), "{wrong}");
        }
    }
}
