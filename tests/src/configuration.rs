//! Changes to a laboratory's configuration file, made as an operator would: in its text.

use anyhow::{Context, Result};

/// The text of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration(pub String);

impl Configuration {
    /// Without the backend of this name.
    pub fn without_backend(&self, name: &str) -> Result<Self> {
        let (start, end) = self.backend(name)?;
        Ok(Self(self.0[..start].to_owned() + &self.0[end..]))
    }

    /// With this weight for the backend of this name.
    pub fn with_weight(&self, name: &str, weight: u16) -> Result<Self> {
        let (_, end) = self.backend(name)?;
        Ok(Self(format!(
            "{}weight = {weight}\n{}",
            self.0[..end].trim_end_matches('\n').to_owned() + "\n",
            &self.0[end..]
        )))
    }

    /// With every `from` replaced; there must be one.
    pub fn with(&self, from: &str, to: &str) -> Result<Self> {
        anyhow::ensure!(self.0.contains(from), "the laboratory's configuration has no {from:?}");
        Ok(Self(self.0.replace(from, to)))
    }

    /// From the backend's header to the next header or the end.
    fn backend(&self, name: &str) -> Result<(usize, usize)> {
        const HEADER: &str = "[[service.backend]]\n";
        let text = &self.0;
        let start = text
            .find(&format!("{HEADER}name = \"{name}\"\n"))
            .with_context(|| format!("the laboratory's configuration has no backend {name}"))?;
        let body = start + HEADER.len();
        let end = text[body..].find("\n[").map_or(text.len(), |length| body + length);
        Ok((start, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[[service.backend]]\nname = \"b1\"\naddress = \"a:1\"\n\n[[service.backend]]\nname = \"b2\"\naddress = \"a:2\"\n";

    #[test]
    fn a_backend_is_taken_out_whole_and_alone() {
        let text = Configuration(TEXT.to_owned());
        let left = text.without_backend("b1").unwrap();
        assert_eq!(left.0.trim(), "[[service.backend]]\nname = \"b2\"\naddress = \"a:2\"");
        assert!(text.without_backend("b3").is_err());
    }

    #[test]
    fn a_weight_goes_to_the_backend_named() {
        let text = Configuration(TEXT.to_owned()).with_weight("b1", 3).unwrap();
        assert!(
            text.0.starts_with("[[service.backend]]\nname = \"b1\"\naddress = \"a:1\"\nweight = 3\n\n[[service"),
            "{}",
            text.0
        );
    }
}
